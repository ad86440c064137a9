"""
The session's cookie.

Browsers accept the name's prefix `__Host-` only with `Secure` and `Path=/`, and only from this very
host. On loopback without TLS the name has no prefix. A separate staff port has a cookie of its own
name: cookies do not tell ports apart.
"""

from typing import NamedTuple

from aiohttp import web


class Cookie(NamedTuple):
    """Name and safety of the cookie."""

    name: str
    is_secure: bool

    @classmethod
    def of(cls, *, is_secure: bool, is_staffs: bool) -> "Cookie":
        """Return the cookie of a port; `is_staffs` if that port serves staff alone."""
        name = "segments-staff" if is_staffs else "segments"
        return cls(f"__Host-{name}" if is_secure else name, is_secure)

    def read(self, request: web.Request) -> str | None:
        """Return a request's cookie, if any."""
        return request.cookies.get(self.name)

    def give(self, answer: web.StreamResponse, token: str) -> None:
        """Set the cookie; it ends with the browser, its session in the ledger."""
        answer.set_cookie(
            self.name, token, path="/", httponly=True, samesite="Lax", secure=self.is_secure
        )

    def take(self, answer: web.StreamResponse) -> None:
        """Delete the cookie."""
        answer.del_cookie(self.name, path="/", httponly=True, samesite="Lax", secure=self.is_secure)
