"""
Authentication of the Privacy API: the bearer of a token, or the signer of a JWT.

    401   no bearer token
    403   unknown, expired or revoked, or its account is switched off

Refusals are in the audit trail, too. Entries about unauthenticated callers are limited per minute
across all replicas; the next entry counts those left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import hdrs, web
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.doors.rest.auth import bearer_token
from segments.doors.rest.failure_counts import Counted, FailureCounts
from segments.doors.rest.problem import NotAuthenticated
from segments.doors.rest.services import Services
from segments.ledger import accounts
from segments.ledger.database.engine import reading
from segments.ledger.privacy import audit
from segments.ledger.privacy import tokens as privacy_tokens
from segments.ledger.privacy.audit import Actor, Entry, Who
from segments.ledger.privacy.keys import PrivacyKey
from segments.ledger.privacy.tokens import PrivacyToken
from segments.model.account import Account
from segments.model.limit import Limit

STRANGERS = Limit(burst=60, per_s=1.0)
"""For the audit trail's entries about unauthenticated callers."""


class SwitchedOff(Exception):
    """The account of a token or key is not active."""


@dataclass(frozen=True)
class Agent:
    """The submitter of a request, and its account; `None` is global."""

    who: Who
    account: Account | None
    is_internal: bool  # may ask for reports, and search
    token_id: int | None = None
    key_id: int | None = None


def agent_of_token(token: PrivacyToken, account: Account | None) -> Agent:
    """Return the agent for a token's bearer."""
    who = Who(Actor.TOKEN, str(token.id), token.account_id)
    return Agent(who, account, token.is_internal, token_id=token.id)


def agent_of_key(key: PrivacyKey, account: Account | None) -> Agent:
    """Return the agent for a JWT's signer."""
    who = Who(Actor.KEY, f"{key.domain}/{key.kid}", key.account_id)
    return Agent(who, account, key.is_internal, key_id=key.id)


async def active_account(conn: AsyncConnection, account_id: int | None) -> Account | None:
    """
    Return the account of a token or key; `None` is global.

    Raises:
        SwitchedOff: The account or an account above it is not active.
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
    """Writes refusals to the audit trail."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._strangers = FailureCounts(services.ledger)
        self._reason_to_unwritten: dict[str, int] = {}

    async def note(self, who: Who, entry: Entry) -> None:
        """Record a refusal of a known token or key."""
        now_s = self._services.now_s()
        async with self._services.ledger.begin() as conn:
            await audit.add(conn, who, [entry], now_s=now_s)

    async def note_stranger(self, reason: str) -> None:
        """Record an unauthenticated caller; `reason` is from a fixed set."""
        unwritten = self._reason_to_unwritten.pop(reason, 0)
        counted = [Counted("stranger", reason, STRANGERS)]
        if await self._strangers.count(counted, self._services.now_s()):
            # Concurrent calls may have counted meanwhile.
            unwritten += 1 + self._reason_to_unwritten.pop(reason, 0)
            self._reason_to_unwritten[reason] = unwritten
            return
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
        Return the agent of a request.

        Raises:
            NotAuthenticated: The token is missing or invalid.
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
        agent = None
        async with reading(self._services.ledger) as conn:
            token = await privacy_tokens.find(conn, given)
            if token is None:
                reason = "unknown bearer token"
            elif not token.is_good(self._services.now_s()):
                reason = "the bearer token has expired or was revoked"
            else:
                try:
                    agent = agent_of_token(token, await active_account(conn, token.account_id))
                except SwitchedOff as error:
                    reason = str(error)
        if token is not None and agent is not None:
            now_s = self._services.now_s()
            await privacy_tokens.note_use(self._services.ledger, token, now_s=now_s)
            return agent
        if token is None:
            await self._refusals.note_stranger(reason)
        else:
            who = agent_of_token(token, None).who
            await self._refusals.note(who, Entry("authenticate", refused_because=reason))
        raise NotAuthenticated(reason, is_missing=False)
