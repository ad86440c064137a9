"""
Headers of all answers of the console.

The policy allows only our own files, without `unsafe-*` or a nonce: a script or style in a
partner's name has no effect. `Referrer-Policy` is `same-origin`: under `no-referrer` browsers send
no usable `Origin`.
"""

from typing import Final

from aiohttp import hdrs, web

_HTTPS_ONLY_S = 365 * 86_400

_ALWAYS: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


def policy(bucket_origin: str | None = None) -> str:
    """Return the content security policy; uploads may go to the origin of a bucket."""
    connect = "'self'" if bucket_origin is None else f"'self' {bucket_origin}"
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        f" connect-src {connect}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def set_headers(answer: web.StreamResponse, *, is_secure: bool) -> None:
    """Set the headers; an answer may have its own policy or caching."""
    for name, value in _ALWAYS.items():
        answer.headers[name] = value
    answer.headers.setdefault("Content-Security-Policy", policy())
    answer.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    if is_secure:
        answer.headers[hdrs.STRICT_TRANSPORT_SECURITY] = f"max-age={_HTTPS_ONLY_S}"
