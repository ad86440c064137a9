"""
Constant parts of HTTP answers, made once.

An answer is a head from here, any `extra` lines that the request asked for,
`Content-Length`, and the body: one join, one write.
"""

import re
from functools import lru_cache
from typing import Final

from isal import igzip_lib, isal_zlib

from rtb.server.metrics.layout import REFUSAL_STATUS, Refusal

_GZIP_WBITS: Final = 31
_GZIP_LEVEL: Final = 1
"""isal's: 2.8 KB of JSON to a third in about 10 µs; zlib's fastest takes 50 µs."""

MIN_GZIP_BYTES: Final = 1024
"""A smaller answer fits one packet either way."""

GZIP_MAGIC: Final = b"\x1f\x8b"
"""The first bytes of gzip (RFC 1952, 2.3.1); no JSON begins with them."""

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE: Final = b"Connection: close\r\n"
KEEP_ALIVE: Final = b"Connection: keep-alive\r\n"
ENCODED: Final = b"Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n"

_STATUS: Final = {
    200: b"200 OK",
    204: b"204 No Content",
    400: b"400 Bad Request",
    401: b"401 Unauthorized",
    403: b"403 Forbidden",
    404: b"404 Not Found",
    405: b"405 Method Not Allowed",
    408: b"408 Request Timeout",
    413: b"413 Content Too Large",
    415: b"415 Unsupported Media Type",
    417: b"417 Expectation Failed",
    431: b"431 Request Header Fields Too Large",
    501: b"501 Not Implemented",
    503: b"503 Service Unavailable",
}

_STATUS_TO_FIELD: Final = {
    401: b"WWW-Authenticate: Bearer",
    503: b"Retry-After: 1",
}


def head_of(status: int, outcome: str, error: str = "", *, media_type: str = "") -> bytes:
    """Make the part of an answer's head that depends only on its outcome."""
    lines = [b"HTTP/1.1 " + _STATUS[status], b"X-Enrich-Outcome: " + outcome.encode()]
    if error:
        lines.append(b"X-Enrich-Error: " + error.encode())
    if status in _STATUS_TO_FIELD:
        lines.append(_STATUS_TO_FIELD[status])
    if media_type:
        lines.append(b"Content-Type: " + media_type.encode())
    return b"\r\n".join(lines) + b"\r\n"


def plain_head(status: int, fields: bytes) -> bytes:
    """Make the same part for an answer to no bid; `fields` are whole lines."""
    return b"HTTP/1.1 %b\r\nCache-Control: no-store\r\n%b" % (_STATUS[status], fields)


_REFUSAL_FIELD: Final = {
    Refusal.NOT_POST: b"Allow: POST\r\n",
    Refusal.NOT_GET: b"Allow: GET\r\n",
}
REFUSAL_HEADS: Final = {
    refusal: head_of(status, "shed" if status == 503 else "malformed", refusal)
    + _REFUSAL_FIELD.get(refusal, b"")
    for refusal, status in REFUSAL_STATUS.items()
}


class TooLarge(Exception):
    """The decompressed body exceeds the limit."""


class BadEncoding(Exception):
    """The body does not match its declared encoding, or the encoding is unknown."""


def unfold(body: bytes, encoding: bytes, max_bytes: int) -> bytes:
    """
    Undo a request's `Content-Encoding`.

    Args:
        body: As received.
        encoding: The header's value: gzip, or identity.
        max_bytes: Where decompression stops, to limit a gzip bomb.

    Raises:
        TooLarge: The result exceeds `max_bytes`.
        BadEncoding: Not gzip, truncated, or another encoding.
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
            # Like gzip(1): blocks and buffers may be padded with zeros.
            body = member.unused_data.lstrip(b"\0")
    except igzip_lib.IsalError:  # type: ignore[misc] # the stub declares an instance
        raise BadEncoding from None
    raise BadEncoding


_MAX_MEMBERS: Final = 16
"""RFC 1952 allows several; a thousand empty ones would only cost time."""

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
    """Echo `x-openrtb-version` if it is a version, `<major>.<minor>`; else nothing."""
    if not _VERSION.fullmatch(value):
        return b""
    return b"x-openrtb-version: " + value + b"\r\n"
