"""
Who submits requests to the Privacy API: the bearer of a token, or a JWT's signer.

    401   no bearer token
    403   one that was never given out, has expired, was revoked, or whose account
          was switched off

Whoever is refused is written into the audit trail, too. Strangers could fill it
with nothing else, so of those only so many a minute are written; the next one
says how many alike there were.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import hdrs, web
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.doors.rest.auth import bearer_token
from segments.doors.rest.problem import NotAuthenticated
from segments.doors.rest.services import Services
from segments.doors.rest.throttle import Limit, Throttle
from segments.ledger import accounts
from segments.ledger.database.engine import reading
from segments.ledger.privacy import audit
from segments.ledger.privacy import tokens as privacy_tokens
from segments.ledger.privacy.audit import Actor, Entry, Who
from segments.ledger.privacy.keys import PrivacyKey
from segments.ledger.privacy.tokens import PrivacyToken
from segments.model.account import Account

STRANGERS = Limit(burst=60, per_s=1.0)
"""Entries of the audit trail for those who have not shown who they are."""


class SwitchedOff(Exception):
    """The account that somebody acts for is not active; the message says so and no more."""


@dataclass(frozen=True)
class Agent:
    """Who submits, and for which account; `None` is global."""

    who: Who
    account: Account | None
    is_internal: bool  # may ask for reports, and search
    token_id: int | None = None
    key_id: int | None = None


def agent_of_token(token: PrivacyToken, account: Account | None) -> Agent:
    """Return for whom the bearer of a token acts."""
    who = Who(Actor.TOKEN, str(token.id), token.account_id)
    return Agent(who, account, token.is_internal, token_id=token.id)


def agent_of_key(key: PrivacyKey, account: Account | None) -> Agent:
    """Return for whom the signer of a JWT acts."""
    who = Who(Actor.KEY, f"{key.domain}/{key.kid}", key.account_id)
    return Agent(who, account, key.is_internal, key_id=key.id)


async def active_account(conn: AsyncConnection, account_id: int | None) -> Account | None:
    """
    Return the account that somebody acts for; `None` is global.

    Raises:
        SwitchedOff: It, or one above it, is not active.
    """
    if account_id is None:
        return None
    account = at = await accounts.account(conn, account_id)
    while at.is_active and at.parent_id is not None:
        at = await accounts.account(conn, at.parent_id)
    if not at.is_active:
        raise SwitchedOff("the account was switched off")
    return account


class Refusals:
    """Writes into the audit trail what was refused."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._strangers = Throttle(STRANGERS, services.clock_s)
        self._reason_to_unwritten: dict[str, int] = {}

    async def note(self, who: Who, entry: Entry) -> None:
        """Note one refusal of somebody whom we know."""
        now_s = self._services.now_s()
        async with self._services.ledger.begin() as conn:
            await audit.add(conn, who, [entry], now_s=now_s)

    async def note_stranger(self, reason: str) -> None:
        """Note that somebody has not shown who they are; `reason` is one of a few."""
        unwritten = self._reason_to_unwritten.pop(reason, 0)
        if self._strangers.wait_s(reason):
            self._reason_to_unwritten[reason] = unwritten + 1
            return
        self._strangers.failed(reason)
        entry = Entry("authenticate", refused_because=reason, times=unwritten + 1)
        await self.note(audit.UNKNOWN, entry)


class PrivacyTokens:
    """The scheme of `Authorization: Bearer <token of rtb-segments token create>`."""

    name = "privacyToken"
    openapi: Mapping[str, Any] = {
        "type": "http",
        "scheme": "bearer",
        "description": "What `rtb-segments token create` has shown.",
    }

    def __init__(self, services: Services, refusals: Refusals) -> None:
        self._services = services
        self._refusals = refusals

    async def caller(self, request: web.Request) -> Agent:
        """
        Return who asks.

        Raises:
            NotAuthenticated: There is no token, or it is worth nothing.
        """
        given = bearer_token(request)
        if given is None:
            reason = (
                "not a bearer token"
                if hdrs.AUTHORIZATION in request.headers
                else "no bearer token was given"
            )
            await self._refusals.note_stranger(reason)
            raise NotAuthenticated(reason, is_missing=True)
        async with reading(self._services.ledger) as conn:
            token = await privacy_tokens.find(conn, given)
            if token is None:
                reason = "unknown bearer token"
            elif not token.is_good(self._services.now_s()):
                reason = "the bearer token has expired or was revoked"
            else:
                try:
                    return agent_of_token(token, await active_account(conn, token.account_id))
                except SwitchedOff as error:
                    reason = str(error)
        if token is None:
            await self._refusals.note_stranger(reason)
        else:
            who = agent_of_token(token, None).who
            await self._refusals.note(who, Entry("authenticate", refused_because=reason))
        raise NotAuthenticated(reason, is_missing=False)
