"""
Password login: `POST /login`, refresh and revocation.

The answer is the vendor's ("Obtain an Access Token"): `token`, `username`,
`userId`, `refreshToken`.
"""

from aiohttp import web
from pydantic import Field

from segments.doors.rest.access_tokens import UserTokens
from segments.doors.rest.door import Door, Reply, operation
from segments.doors.rest.logins import Logins
from segments.doors.rest.passwords import MAX_CHARS
from segments.doors.rest.problem import NotAuthenticated
from segments.doors.rest.schemas import Form, PrintableText
from segments.doors.rest.services import Services
from segments.ledger import users
from segments.ledger.users import MAX_USERNAME_CHARS, Session, account_of


class LoginForm(Form):
    """A user's name and password."""

    username: PrintableText = Field(max_length=MAX_USERNAME_CHARS)
    password: str = Field(max_length=MAX_CHARS)


class RefreshForm(Form):
    """The refresh token of a login or of the last refresh; each works once."""

    refreshToken: str = Field(max_length=256)  # noqa: N815 - the document's spelling


class LoggedIn(Form):
    """The answer of a login."""

    token: str = Field(description="For `Authorization: bearer <token>`.")
    username: str
    userId: str  # noqa: N815 - the document's spelling
    refreshToken: str  # noqa: N815 - likewise


class LoginDoor(Door):
    """Passwords to access tokens."""

    tag = "Login"

    def __init__(self, services: Services, tokens: UserTokens, logins: Logins) -> None:
        self._services = services
        self._tokens = tokens
        self._logins = logins

    @operation("POST", "/login", answers={200: LoggedIn}, problems=(401, 403, 429))
    async def login(self, *, body: LoginForm, request: web.Request) -> LoggedIn:
        """Obtain an access token."""
        session = await self._logins.begin_session(
            body.username,
            body.password,
            self._services.source_of(request),
            for_s=self._refresh_s,
        )
        return self._logged_in(session)

    @operation("POST", "/login/refresh", answers={200: LoggedIn}, problems=(401,))
    async def refresh(self, *, body: RefreshForm) -> LoggedIn:
        """
        Obtain another access token, without the password.

        The answer's `refreshToken` replaces the given token. A token that is given a
        second time ends the login: it must have been stolen.
        """
        now_s = self._services.now_s()
        async with self._services.ledger.begin() as conn:
            session = await users.refresh_session(
                conn, body.refreshToken, now_s=now_s, expires_at_s=now_s + self._refresh_s
            )
            account = None if session is None else await account_of(conn, session.user)
        if session is None or account is None:
            raise NotAuthenticated("the refresh token is not valid any more", is_missing=False)
        return self._logged_in(session)

    @operation("POST", "/login/revoke", answers={204: None})
    async def revoke(self, *, body: RefreshForm) -> Reply:
        """
        End a login: its refresh token and its access tokens are invalid from now on.

        An invalid token gets the same answer (RFC 7009, 2.2).
        """
        async with self._services.ledger.begin() as conn:
            await users.end_session(conn, body.refreshToken)
        return Reply(None, 204)

    @property
    def _refresh_s(self) -> float:
        return self._services.options.refresh_s

    def _logged_in(self, session: Session) -> LoggedIn:
        return LoggedIn(
            token=self._tokens.token(session),
            username=session.user.username,
            userId=session.user.public_id,
            refreshToken=session.refresh_token,
        )
