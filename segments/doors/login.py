"""
Logging in with a password: `POST /login`, its refreshing and its revoking.

The answer is the vendor's ("Obtain an Access Token"): `token`, `username`,
`userId`, `refreshToken`. A wrong username and a wrong password are answered
alike, and take as long.
"""

from aiohttp import web
from pydantic import Field

from segments.api.door import Door, Reply, operation
from segments.api.passwords import MAX_CHARS, Passwords
from segments.api.problem import NotAuthenticated, Problem
from segments.api.services import Services
from segments.api.throttle import Limit, Throttle
from segments.api.tokens import UserTokens, account_of
from segments.doors.forms import Form, PrintableText
from segments.ledger import users
from segments.ledger.engine import reading
from segments.ledger.users import MAX_USERNAME_CHARS, Session

_S_PER_DAY = 86_400

PER_USER_AND_ADDRESS = Limit(burst=5, per_s=1 / 30)
PER_USER = Limit(burst=50, per_s=1 / 10)
PER_ADDRESS = Limit(burst=100, per_s=1)


class LoginForm(Form):
    """Who one is, and the proof."""

    username: PrintableText = Field(max_length=MAX_USERNAME_CHARS)
    password: str = Field(max_length=MAX_CHARS)


class RefreshForm(Form):
    """The refresh token of a login or of the last refresh; each works once."""

    refreshToken: str = Field(max_length=256)  # noqa: N815 - the document's spelling


class LoggedIn(Form):
    """What a login answers."""

    token: str = Field(description="For `Authorization: bearer <token>`.")
    username: str
    userId: str  # noqa: N815 - the document's spelling
    refreshToken: str  # noqa: N815 - likewise


class LoginDoor(Door):
    """Passwords to access tokens."""

    tag = "Login"

    def __init__(self, services: Services, tokens: UserTokens) -> None:
        self._services = services
        self._tokens = tokens
        self._passwords = Passwords()
        self._failures = [
            Throttle(limit, services.clock_s)
            for limit in (PER_USER_AND_ADDRESS, PER_USER, PER_ADDRESS)
        ]

    @operation("POST", "/login", answers={200: LoggedIn}, problems=(401, 429))
    async def login(self, *, body: LoginForm, request: web.Request) -> LoggedIn:
        """Obtain an access token."""
        username, address = body.username.lower(), request.remote or ""
        names = (f"{address} {username}", username, address)
        self._check_patience(names)

        async with reading(self._services.ledger) as conn:
            user = await users.find_user(conn, username)
            account = None if user is None else await account_of(conn, user)
        may = user is not None and user.is_active and account is not None
        # Counted before it is checked, or many at once would all be the first.
        for throttle, name in zip(self._failures, names, strict=True):
            throttle.failed(name)
        verdict = await self._passwords.check(
            user.password_hash if user is not None and may else None, body.password
        )
        if user is None or not verdict.is_right:
            raise NotAuthenticated("no user of that name has that password", is_missing=False)
        for throttle, name in zip(self._failures, names, strict=True):
            throttle.forgive_one(name)
        self._failures[0].forgive(names[0])

        now_s = self._services.now_s()
        async with self._services.ledger.begin() as conn:
            if verdict.new_hash is not None:
                await users.renew_hash(conn, user, verdict.new_hash)
            session = await users.begin_session(
                conn, user, now_s=now_s, expires_at_s=self._session_end_s(now_s)
            )
        return self._logged_in(session)

    @operation("POST", "/login/refresh", answers={200: LoggedIn}, problems=(401,))
    async def refresh(self, *, body: RefreshForm) -> LoggedIn:
        """
        Obtain another access token, without the password.

        The answer's `refreshToken` replaces the one given. One that is given a
        second time ends the login: it must have been stolen from somebody.
        """
        now_s = self._services.now_s()
        async with self._services.ledger.begin() as conn:
            session = await users.refresh_session(
                conn, body.refreshToken, now_s=now_s, expires_at_s=self._session_end_s(now_s)
            )
            account = None if session is None else await account_of(conn, session.user)
        if session is None or account is None:
            raise NotAuthenticated("the refresh token is not valid any more", is_missing=False)
        return self._logged_in(session)

    @operation("POST", "/login/revoke", answers={204: None})
    async def revoke(self, *, body: RefreshForm) -> Reply:
        """
        End a login: its refresh token and its access tokens are worth nothing from now on.

        A token that was worth nothing before is answered alike (RFC 7009, 2.2).
        """
        async with self._services.ledger.begin() as conn:
            await users.end_session(conn, body.refreshToken)
        return Reply(None, 204)

    def _check_patience(self, names: tuple[str, ...]) -> None:
        wait_s = max(
            throttle.wait_s(name) for throttle, name in zip(self._failures, names, strict=True)
        )
        if wait_s:
            raise Problem(429, "too many failed logins; wait", headers={"Retry-After": str(wait_s)})

    def _session_end_s(self, now_s: float) -> float:
        return now_s + self._services.settings.api_refresh_days * _S_PER_DAY

    def _logged_in(self, session: Session) -> LoggedIn:
        return LoggedIn(
            token=self._tokens.token(session),
            username=session.user.username,
            userId=session.user.public_id,
            refreshToken=session.refresh_token,
        )
