"""
HTTP words that never change, made once.

An answer is a head from here, `extra` lines if the request asked for any,
`Content-Length`, and the body: one join, one write.
"""

import re
from functools import lru_cache
from typing import Final

from isal import igzip_lib, isal_zlib

from rtb.server.metrics.layout import Refusal

_GZIP_WBITS: Final = 31
_GZIP_LEVEL: Final = 1
"""isal's: 2.8 KB of JSON in about 10 µs to a third of it; zlib's fastest takes 50 µs."""

MIN_GZIP_BYTES: Final = 1024
"""A smaller answer fits the same packet either way."""

GZIP_MAGIC: Final = b"\x1f\x8b"
"""What gzip begins with (RFC 1952, 2.3.1), and no JSON does."""

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE: Final = b"Connection: close\r\n"
KEEP_ALIVE: Final = b"Connection: keep-alive\r\n"
ENCODED: Final = b"Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n"

_STATUS: Final = {
    200: b"200 OK",
    204: b"204 No Content",
    400: b"400 Bad Request",
    404: b"404 Not Found",
    405: b"405 Method Not Allowed",
    408: b"408 Request Timeout",
    413: b"413 Content Too Large",
    417: b"417 Expectation Failed",
    431: b"431 Request Header Fields Too Large",
    501: b"501 Not Implemented",
}


def head_of(status: int, outcome: str, error: str = "", *, media_type: str = "") -> bytes:
    """Make the part of an answer's head that depends on its ending alone."""
    lines = [b"HTTP/1.1 " + _STATUS[status], b"X-Enrich-Outcome: " + outcome.encode()]
    if error:
        lines.append(b"X-Enrich-Error: " + error.encode())
    if status == 405:
        lines.append(b"Allow: POST")
    if media_type:
        lines.append(b"Content-Type: " + media_type.encode())
    return b"\r\n".join(lines) + b"\r\n"


_REFUSAL_STATUS: Final = {
    Refusal.BAD_HTTP: 400,
    Refusal.CONTENT_TYPE: 400,
    Refusal.UNKNOWN_PATH: 404,
    Refusal.UNKNOWN_RECIPIENT: 404,
    Refusal.NOT_POST: 405,
    Refusal.TOO_SLOW: 408,
    Refusal.BODY_TOO_LARGE: 413,
    Refusal.EXPECTATION: 417,
    Refusal.HEAD_TOO_LARGE: 431,
    Refusal.TRANSFER_CODING: 501,
}
REFUSAL_HEADS: Final = {
    refusal: head_of(status, "malformed", refusal) for refusal, status in _REFUSAL_STATUS.items()
}


class TooLarge(Exception):
    """The body unfolds to more than we take."""


class BadEncoding(Exception):
    """The body is not in the encoding that its head claims, or in one that we don't know."""


def unfold(body: bytes, encoding: bytes, max_bytes: int) -> bytes:
    """
    Undo a request's `Content-Encoding`.

    Args:
        body: As it came.
        encoding: The header's value: gzip, or identity.
        max_bytes: Where unfolding stops, so that a small bomb stays small.

    Raises:
        TooLarge: There is more than `max_bytes`.
        BadEncoding: Not gzip, cut short, or another encoding.
    """
    name = encoding.strip().lower()
    if name == b"identity":
        return body
    if name not in _GZIP_NAMES:
        raise BadEncoding
    parts: list[bytes] = []
    left = max_bytes
    try:
        for _ in range(_MAX_MEMBERS):
            if not body:
                return b"".join(parts)
            member = isal_zlib.decompressobj(wbits=_GZIP_WBITS)
            part = member.decompress(body, left + 1)
            left -= len(part)
            if left < 0:
                raise TooLarge
            if not member.eof:
                raise BadEncoding
            parts.append(part)
            # As gzip(1) does: blocks and buffers are filled up with zeros.
            body = member.unused_data.lstrip(b"\0")
    except igzip_lib.IsalError:  # type: ignore[misc] # its stub says it is an instance
        raise BadEncoding from None
    raise BadEncoding


_MAX_MEMBERS: Final = 16
"""RFC 1952 lets members follow each other; a thousand empty ones would only cost time."""

_GZIP_NAMES: Final = frozenset({b"gzip", b"x-gzip"})


def fold(body: bytes) -> bytes:
    """Compress an answer's body with gzip."""
    folded: bytes = isal_zlib.compress(body, _GZIP_LEVEL, _GZIP_WBITS)
    return folded


@lru_cache(maxsize=256)
def takes_gzip(accept_encoding: bytes) -> bool:
    """Tell whether an `Accept-Encoding` asks for gzip (RFC 9110, 12.5.3)."""
    return any(
        match[1] in (b"gzip", b"x-gzip") and not _ZERO.fullmatch(match[2] or b"1")
        for match in _CODING.finditer(accept_encoding.lower())
    )


_CODING: Final = re.compile(rb"([^\s,;]+)\s*(?:;\s*q\s*=\s*([0-9.]+))?")
_ZERO: Final = re.compile(rb"0(\.0*)?")

_VERSION: Final = re.compile(rb"[0-9]{1,3}(\.[0-9]{1,3})?")


@lru_cache(maxsize=256)
def version_line(value: bytes) -> bytes:
    """Echo `x-openrtb-version` if it is a version, `<major>.<minor>`; nothing otherwise."""
    if not _VERSION.fullmatch(value):
        return b""
    return b"x-openrtb-version: " + value + b"\r\n"
