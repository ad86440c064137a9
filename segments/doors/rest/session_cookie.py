"""
Sessions by a cookie: the access token of a login, where a script can't read it.

The cookie is an access token like any other (`segments.doors.rest.access_tokens`), and so
ends with its session at once. It is never sent along from another site
(`SameSite=Strict`), nor taken from another host of the same site, so no page of a
stranger's can act for a person who is logged in; under https it is never sent in clear.
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
        Return who asks; `None` if there is no such cookie.

        Raises:
            NotAuthenticated: It is not ours, or has expired, or its session has ended.
            Problem: 403: a page of another site has sent it.
        """
        token = request.cookies.get(NAME)
        if token is None:
            return None
        refuse_other_sites(request)
        return await self._tokens.caller_of(token)

    def give(self, answer: web.Response, session: Session, *, max_age_s: int, secure: bool) -> None:
        """Have a client keep the cookie of a session."""
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
        """End the session of a request's cookie, if it has one, and have the client forget it."""
        token = request.cookies.get(NAME)
        if token is not None:
            await self._tokens.end_session_of(token)
        answer.del_cookie(NAME, path="/", httponly=True, samesite="Strict")
