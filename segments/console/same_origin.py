"""
Requests of foreign pages: none of them may act for a visitor.

Every unsafe method needs both of these:

    the origin   `Sec-Fetch-Site: same-origin`; where a browser sends none (plain http), an
                 `Origin` equal to our own
    the token    of the session, in the form's field `_t` or, of a script, in `X-Form-Token`

Cookies do not tell ports apart, so another service on this host could send the cookie along, but
not the token, an HMAC under the session's own secret: nothing to store.
"""

import hmac
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

SAFE: Final = (hdrs.METH_GET, hdrs.METH_HEAD)
FIELD: Final = "_t"
HEADER: Final = "X-Form-Token"
_TOKEN_CHARS = 32


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
    """Return the token of a session's forms."""
    return hmac.digest(cookie.encode(errors="replace"), b"form", "sha256").hex()[:_TOKEN_CHARS]


def is_token_of(cookie: str, given: str) -> bool:
    """Tell whether a form is of this session."""
    return hmac.compare_digest(form_token(cookie).encode(), given.encode(errors="replace"))
