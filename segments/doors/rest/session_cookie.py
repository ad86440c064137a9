"""
Sessions by cookie: a login's access token, out of reach of scripts.

The token is like any other (`segments.doors.rest.access_tokens`). The cookie is not sent from other
sites (`SameSite=Strict`) and not accepted from other hosts of the same site, so no foreign page can
act for a user. Over https it is `Secure`.
"""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from segments.doors.rest.access_tokens import UserTokens
from segments.doors.rest.auth import Caller
from segments.doors.rest.other_sites import refuse_other_sites
from segments.ledger.users import Session

NAME = "digitalAudience"


class SessionCookie:
    """The scheme of `Cookie: digitalAudience=<token of a login>`."""

    name = "sessionCookie"
    openapi: Mapping[str, Any] = {
        "type": "apiKey",
        "in": "cookie",
        "name": NAME,
        "description": "The cookie that `POST /account/login` sets.",
    }

    def __init__(self, tokens: UserTokens) -> None:
        self._tokens = tokens

    async def caller(self, request: web.Request) -> Caller | None:
        """
        Return the caller of a request; `None` without the cookie.

        Raises:
            NotAuthenticated: The token is not ours or has expired, or its session has ended.
            Problem: 403: sent by a page of another site.
        """
        token = request.cookies.get(NAME)
        if token is None:
            return None
        refuse_other_sites(request)
        return await self._tokens.caller_of(token)

    def give(self, answer: web.Response, session: Session, *, max_age_s: int, secure: bool) -> None:
        """Set a session's cookie."""
        answer.set_cookie(
            NAME,
            self._tokens.token(session),
            max_age=max_age_s,
            path="/",
            httponly=True,
            samesite="Strict",
            secure=secure,
        )

    async def take(self, request: web.Request, answer: web.Response) -> None:
        """End the session of a request's cookie, if any, and delete the cookie."""
        token = request.cookies.get(NAME)
        if token is not None:
            await self._tokens.end_session_of(token)
        answer.del_cookie(NAME, path="/", httponly=True, samesite="Strict")
