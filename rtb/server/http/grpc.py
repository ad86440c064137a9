"""
gRPC on HTTP/2: the framing of messages, statuses and call timeouts.

    message = compressed/1 byte, 0 or 1; length/4 bytes, big endian; that many bytes
    call    = head, one message; answer = head, one message, trailers with the status;
              or, without a message, one head with the status

("gRPC over HTTP2", grpc/grpc doc/PROTOCOL-HTTP2.md.)
"""

import re
from math import inf
from typing import Final

from rtb.server.http.http11 import BadEncoding, TooLarge, head_of, unfold

PREFIX_BYTES: Final = 5
MEDIA_TYPE: Final = "application/grpc"
_USUAL_TYPE: Final = b"application/grpc"

OK: Final = 0
INVALID_ARGUMENT: Final = 3
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
UNAUTHENTICATED: Final = 16

OK_TRAILERS: Final = b"grpc-status: 0\r\n"
ACCEPTED_ENCODINGS: Final = b"grpc-accept-encoding: identity,gzip\r\n"

_BACK_MS: Final = 2.0
"""Of a call's timeout: 1 ms for the answer's way back, and 1 ms for a late timer."""

_ENCODINGS: Final = (b"gzip", b"identity", b"")
_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_MS: Final = {b"H": 3.6e6, b"M": 6e4, b"S": 1e3, b"m": 1.0, b"u": 1e-3, b"n": 1e-6}


class UnknownEncoding(Exception):
    """A message is compressed in an encoding that we can't decode."""


def unframed(body: bytes, encoding: bytes, max_bytes: int) -> bytes:
    """
    Return the message of a call.

    Args:
        body: As received.
        encoding: `grpc-encoding`; empty if absent. Only for a message flagged as compressed.
        max_bytes: Of the message, compressed and not.

    Raises:
        BadEncoding: Not exactly one message, or not in the given encoding.
        TooLarge: The message is longer than `max_bytes`.
        UnknownEncoding: Compressed, but not by gzip.
    """
    if len(body) < PREFIX_BYTES or body[0] > 1:
        raise BadEncoding
    # Compiled, a fifth of the time of `int.from_bytes`.
    size = body[1] << 24 | body[2] << 16 | body[3] << 8 | body[4]
    if size > max_bytes:
        raise TooLarge
    if len(body) != PREFIX_BYTES + size:
        raise BadEncoding
    message = body[PREFIX_BYTES:]
    if not body[0]:
        return message
    encoding = encoding.strip().lower()
    if encoding not in _ENCODINGS:
        raise UnknownEncoding
    if encoding != b"gzip":
        raise BadEncoding
    return unfold(message, encoding, max_bytes)


def framed(message: bytes) -> bytes:
    """Return a message in its frame, uncompressed."""
    return b"\0" + len(message).to_bytes(4) + message


def is_grpc(content_type: bytes) -> bool:
    """Tell whether a `Content-Type` is that of a call with protobuf messages."""
    if content_type == _USUAL_TYPE:
        return True
    media_type = content_type.partition(b";")[0].strip().lower()
    return media_type in {b"application/grpc", b"application/grpc+proto"}


def timeout_ms(value: bytes) -> float | None:
    """Read a `grpc-timeout`; `None` if it is absent or invalid."""
    found = _TIMEOUT.fullmatch(value)
    return None if found is None else int(found[1]) * _UNIT_MS[found[2]]


def left_ms_of(call_timeout: bytes) -> float:
    """
    Return a call's longest wait after its arrival, by its `grpc-timeout`.

    A millisecond early: a host's own timeout is a failed call.
    """
    of_call_ms = timeout_ms(call_timeout) if call_timeout else None
    return inf if of_call_ms is None else max(0.0, of_call_ms - _BACK_MS)


def error_head(status: int, outcome: str, word: str, more: bytes = b"") -> bytes:
    """
    Make the head of an answer that has no message.

    Args:
        status: Of gRPC.
        outcome: As in answers over HTTP.
        word: The reason, from a closed list.
        more: Further lines.
    """
    head = head_of(200, outcome, word, media_type=MEDIA_TYPE)
    return b"".join(
        (head, more, b"grpc-status: %d\r\ngrpc-message: " % status, word.encode(), b"\r\n")
    )
