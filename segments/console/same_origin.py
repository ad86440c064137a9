"""
Requests of foreign pages: none of them may act for a visitor.

Every unsafe method needs both of these:

    the origin   `Sec-Fetch-Site: same-origin`; where a browser sends none (plain http), an
                 `Origin` equal to our own
    the token    of the session, in the form's field `_t` or, of a script, in `X-Form-Token`

Another service on this host could send the cookie, which tells no ports apart, but not the token:
an HMAC under the session's own secret, so nothing is stored. A compressed page's length tells of
its repetitions (BREACH, CVE-2013-3587), so each page masks the token anew.
"""

import hmac
import secrets
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

SAFE: Final = (hdrs.METH_GET, hdrs.METH_HEAD)
FIELD: Final = "_t"
HEADER: Final = "X-Form-Token"
_TOKEN_BYTES = 16


def is_same_origin(request: web.Request, public_origin: str | None) -> bool:
    """Tell whether a page of our own sent a request, by the browser's word."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None:
        return False
    if public_origin is not None and origin.lower() == public_origin:
        return True
    parts = urlsplit(origin)
    return parts.scheme in ("http", "https") and parts.netloc == request.host


def form_token(cookie: str) -> str:
    """Return the token of a session's forms, in hex: a mask, and the token under it."""
    mask = secrets.token_bytes(_TOKEN_BYTES)
    return (mask + _xor(mask, _token(cookie))).hex()


def is_token_of(cookie: str, given: str) -> bool:
    """Tell whether a form is of this session."""
    try:
        raw = bytes.fromhex(given)
    except ValueError:
        return False
    if len(raw) != 2 * _TOKEN_BYTES:
        return False
    mask, masked = raw[:_TOKEN_BYTES], raw[_TOKEN_BYTES:]
    return hmac.compare_digest(_xor(mask, masked), _token(cookie))


def _token(cookie: str) -> bytes:
    return hmac.digest(cookie.encode(errors="replace"), b"form", "sha256")[:_TOKEN_BYTES]


def _xor(mask: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(mask, other, strict=True))
