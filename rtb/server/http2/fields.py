"""
Heads between HTTP/2 and ours: fields to `Head`, and an answer's lines to fields.

Our lines are HTTP/1.1's (`http11.head_of`), made and translated once for each outcome.
"""

from typing import Final

from rtb.server.http import http11
from rtb.server.http.request_heads import Head
from rtb.server.http.request_reader import HOST, LISTS, MAX_HEADERS
from rtb.server.metrics.layout import Refusal

_MAX_TRANSLATED: Final = 1024

_OF_A_CONNECTION: Final = frozenset({b"connection", b"keep-alive"})
"""Fields without a use in HTTP/2 (RFC 9113, 8.2.2)."""


def head_of_fields(fields: bytes) -> Head | Refusal:
    """
    Read the head of a request.

    Args:
        fields: `name NUL value NUL` each, with lower-case names, as HTTP/2 requires.
    """
    parts = fields.split(b"\0")
    if len(parts) // 2 > MAX_HEADERS:
        return Refusal.HEAD_TOO_LARGE
    headers: dict[bytes, bytes] = {}
    for i in range(0, len(parts) - 1, 2):
        name, value = parts[i], parts[i + 1]
        if name in headers and name in LISTS:
            value = b"%b, %b" % (headers[name], value)
        headers[name] = value
    method, url = headers.pop(b":method", b""), headers.pop(b":path", b"")
    authority, host = headers.pop(b":authority", b""), headers.get(b"host", b"")
    headers.pop(b":scheme", None)
    # A proxy before us may have used either of two hosts (RFC 9113, 8.3.1).
    if (authority and host and authority != host) or not HOST.fullmatch(authority or host):
        return Refusal.BAD_HTTP
    return Head(
        method,
        url,
        headers,
        headers.get(b"content-encoding", b""),
        http11.version_line(headers.get(b"x-openrtb-version", b"")),
        http11.takes_gzip(headers.get(b"accept-encoding", b"")),
        is_last=False,
        body_bytes=0,
    )


def expects_continue(head: Head) -> bool | Refusal:
    """Tell whether a client waits with its body for 100 Continue (RFC 9110, 10.1.1)."""
    expected = head.header(b"expect").lower()
    if expected and expected != b"100-continue":
        return Refusal.EXPECTATION
    return bool(expected)


def fields_of_lines(lines: bytes) -> bytes:
    """
    Translate the lines of an answer's head or trailers.

    Args:
        lines: `Name: value` and a line end each; perhaps a status line first.
    """
    fields = _TRANSLATED.get(lines)
    if fields is None:
        fields = _translated(lines)
        if len(_TRANSLATED) == _MAX_TRANSLATED:
            _TRANSLATED.clear()
        _TRANSLATED[lines] = fields
    return fields


_TRANSLATED: Final[dict[bytes, bytes]] = {}


def _translated(lines: bytes) -> bytes:
    parts: list[bytes] = []
    for line in lines.split(b"\r\n"):
        if line.startswith(b"HTTP/"):
            parts += (b":status", line.split(b" ")[1])
            continue
        name, _, value = line.partition(b":")
        if name and name.lower() not in _OF_A_CONNECTION:
            parts += (name.lower(), value.strip())
    return b"".join([part + b"\0" for part in parts])


def pairs_of(fields: bytes) -> list[tuple[bytes, bytes]]:
    """Return the pairs of names and values."""
    parts = fields.split(b"\0")
    return [(parts[i], parts[i + 1]) for i in range(0, len(parts) - 1, 2)]
