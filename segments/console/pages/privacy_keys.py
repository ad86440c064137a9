"""
The privacy desk's tokens and keys: agents submit persons' requests with them, by the Privacy API.

A desk of one partner manages those of its account and of the accounts below it; other accounts'
tokens and keys look missing.
"""

from collections.abc import Sequence
from typing import NamedTuple

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts import privacy as acts
from segments.console.application import Page
from segments.console.faults import Lost
from segments.console.formats import sentence
from segments.console.pages.acting import asks_again, wrong_code
from segments.console.privacy_agent import agent_of
from segments.console.visit import Visit, see_other
from segments.doors.privacy.agent import Agent
from segments.ledger import accounts
from segments.ledger.database.engine import reading
from segments.ledger.privacy import keys, tokens
from segments.ledger.privacy.tokens import DEFAULT_DAYS, MAX_DAYS, PrivacyToken
from segments.model.account import Account
from segments.model.day import S_PER_DAY
from segments.model.refusal import Refusal
from segments.model.role import Role

_TYPED = ("note", "days", "reach", "internal", "domain", "kid", "public_key")


class Own(NamedTuple):
    """The accounts whose tokens and keys a desk manages."""

    accounts: Sequence[Account]
    is_global: bool  # also those that act for everyone

    def has(self, account_id: int | None) -> bool:
        """Tell whether the desk manages an account's tokens and keys."""
        if account_id is None:
            return self.is_global
        return any(each.id == account_id for each in self.accounts)


def privacy_key_pages() -> list[Page]:
    """Return the pages."""
    desk = (Role.PRIVACY,)
    return [
        Page("GET", "/privacy/keys", show, desk),
        Page("POST", "/privacy/keys/token", create_token, desk),
        Page("POST", "/privacy/keys/token/revoke", revoke_token, desk),
        Page("POST", "/privacy/keys/key", add_key, desk),
        Page("POST", "/privacy/keys/key/remove", remove_key, desk),
    ]


async def show(visit: Visit) -> web.Response:
    """Show the tokens and keys."""
    return await _page(visit, await agent_of(visit))


async def create_token(visit: Visit) -> web.Response:
    """Create a token; it is shown on this answer alone."""
    agent = await agent_of(visit)
    try:
        days = _days(visit.text("days"))
        error = await wrong_code(visit)
        if error:
            return await _page(visit, agent, error=error, form="token")
        async with visit.console.services.ledger.begin() as conn:
            created, secret = await acts.create_token(
                conn,
                visit.by,
                await _chosen(conn, visit, agent),
                is_internal=visit.text("internal") == "yes",
                text=visit.text("note") or "-",
                expires_at_s=visit.now_s + days * S_PER_DAY,
            )
    except Refusal as refusal:
        return await _page(visit, agent, error=str(refusal), form="token")
    return await _page(visit, agent, drawn=(created.id, secret))


async def revoke_token(visit: Visit) -> web.Response:
    """Revoke a token."""
    agent = await agent_of(visit)
    async with visit.console.services.ledger.begin() as conn:
        own = await _own(conn, agent)
        for each in await tokens.tokens(conn):
            if str(each.id) == visit.text("token") and own.has(each.account_id):
                await acts.revoke_token(conn, visit.by, each.id)
                return see_other("/privacy/keys", done="removed")
    raise Lost


async def add_key(visit: Visit) -> web.Response:
    """Accept requests that a domain signs with a key."""
    # Imported here: the reader of RSA keys takes megabytes, and keys are added rarely.
    from segments.doors.privacy.jwt import read_public_key  # noqa: PLC0415

    agent = await agent_of(visit)
    try:
        public_key = read_public_key(visit.text("public_key").encode())
        error = await wrong_code(visit)
        if error:
            return await _page(visit, agent, error=error, form="key")
        async with visit.console.services.ledger.begin() as conn:
            await acts.add_key(
                conn,
                visit.by,
                visit.text("domain"),
                visit.text("kid"),
                public_key,
                await _chosen(conn, visit, agent),
                is_internal=visit.text("internal") == "yes",
            )
    except Refusal as refusal:
        return await _page(visit, agent, error=str(refusal), form="key")
    return see_other("/privacy/keys", done="saved")


async def remove_key(visit: Visit) -> web.Response:
    """Accept a domain's key no longer."""
    agent = await agent_of(visit)
    async with visit.console.services.ledger.begin() as conn:
        own = await _own(conn, agent)
        found = await keys.find(conn, visit.text("domain"), visit.text("kid"))
        if found is None or not own.has(found.account_id):
            raise Lost
        await acts.remove_key(conn, visit.by, found.domain, found.kid)
    return see_other("/privacy/keys", done="removed")


async def _own(conn: AsyncConnection, agent: Agent) -> Own:
    if agent.account is None:
        return Own(await accounts.accounts(conn), is_global=True)
    below = await accounts.below(conn, agent.account)
    return Own([agent.account, *below], is_global=False)


async def _chosen(conn: AsyncConnection, visit: Visit, agent: Agent) -> Account | None:
    """Return the account for which a new token or key acts; `None`: everyone."""
    chosen = visit.text("reach")
    if not chosen:
        return agent.account
    for each in (await _own(conn, agent)).accounts:
        if str(each.id) == chosen:
            return each
    raise Refusal("choose an account of the list")


def _days(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_DAYS:
        return int(text)
    raise Refusal(f"a token is valid for 1 to {MAX_DAYS} days")


def _state(token: PrivacyToken, now_s: float) -> tuple[str, str, str]:
    if token.revoked_at_s is not None:
        return "", "off", "Revoked"
    return ("good", "good", "Valid") if token.is_good(now_s) else ("", "off", "Expired")


async def _page(
    visit: Visit,
    agent: Agent,
    *,
    error: str = "",
    form: str = "",
    drawn: tuple[int, str] | None = None,
) -> web.Response:
    async with reading(visit.console.services.ledger) as conn:
        own = await _own(conn, agent)
        listed = [each for each in await tokens.tokens(conn) if own.has(each.account_id)]
        accepted = [each for each in await keys.keys(conn) if own.has(each.account_id)]
    typed = {name: visit.text(name) if error else "" for name in _TYPED}
    typed["days"] = typed["days"] or str(DEFAULT_DAYS)
    return visit.page(
        "privacy_keys.html",
        status=422 if error else 200,
        error=sentence(error),
        form=form,
        tokens=[(each, _state(each, visit.now_s)) for each in reversed(listed)],
        keys=accepted,
        reach={each.id: f"{each.kind.in_words} {each.public_id}" for each in own.accounts},
        own=own,
        account=agent.account,
        typed=typed,
        max_days=MAX_DAYS,
        drawn=drawn,
        asks_again=asks_again(visit),
    )
