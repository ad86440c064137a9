"""
Users' access tokens: short-lived JWTs that name a session.

The signature keeps unauthenticated requests away from the ledger, which decides: an ended session
or a revoked user is out at once.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from aiohttp import web
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from segments.doors.rest.auth import Caller, bearer_token
from segments.doors.rest.problem import NotAuthenticated
from segments.doors.rest.services import Services
from segments.ledger import users
from segments.ledger.database.engine import reading
from segments.ledger.users import Session, account_of

ISSUER = "rtb-segments"
_ALGORITHM = "HS256"
_DOTS_OF_A_JWT = 2


class _Claims(msgspec.Struct, frozen=True):
    """The claims of our tokens."""

    iss: str
    sub: str  # the user's public id
    sid: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]  # the session
    iat: int
    exp: int


class UserTokens:
    """The scheme of `Authorization: bearer <token of a login>`."""

    name = "userToken"
    openapi: Mapping[str, Any] = {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The `token` of `POST /login`.",
    }

    def __init__(self, services: Services, secret: bytes) -> None:
        self._services = services
        self._key = OctKey.import_key(secret)

    def token(self, session: Session) -> str:
        """Make an access token for a session."""
        now_s = int(self._services.now_s())
        claims = _Claims(
            iss=ISSUER,
            sub=session.user.public_id,
            sid=session.id,
            iat=now_s,
            exp=now_s + self._services.options.token_s,
        )
        return jwt.encode({"alg": _ALGORITHM}, msgspec.to_builtins(claims), self._key)

    async def caller(self, request: web.Request) -> Caller | None:
        """
        Return the caller of a request; `None` without a JWT.

        Raises:
            NotAuthenticated: The token is not ours or has expired, or its session has ended.
        """
        token = bearer_token(request)
        if token is None or token.count(".") != _DOTS_OF_A_JWT:
            return None
        return await self.caller_of(token)

    async def caller_of(self, token: str) -> Caller:
        """
        Return a token's caller.

        Raises:
            NotAuthenticated: The token is not ours or has expired, or its session has ended.
        """
        session_id, user_id = self._claims(token)
        async with reading(self._services.ledger) as conn:
            user = await users.user_of_session(conn, session_id, self._services.now_s())
            account = await account_of(conn, user) if user is not None else None
        if user is None or user.public_id != user_id or account is None:
            raise NotAuthenticated("the access token's session has ended", is_missing=False)
        return Caller(account, user.public_id)

    async def end_session_of(self, token: str) -> None:
        """End the session of a token, if the token is ours and valid."""
        try:
            session_id, _ = self._claims(token)
        except NotAuthenticated:
            return
        async with self._services.ledger.begin() as conn:
            await users.end_session_of_id(conn, session_id)

    def _claims(self, token: str) -> tuple[int, str]:
        try:
            decoded = jwt.decode(token, self._key, algorithms=[_ALGORITHM])
            claims = msgspec.convert(decoded.claims, _Claims)
        except (JoseError, ValueError, TypeError):
            # Drop the library's message: it may quote the token.
            claims = None
        if claims is None or claims.iss != ISSUER:
            raise NotAuthenticated("the access token is not valid", is_missing=False)
        if self._services.now_s() >= claims.exp:
            raise NotAuthenticated("the access token has expired", is_missing=False)
        return claims.sid, claims.sub
