"""
Partners, for operators: the properties of each, its audiences and publishers, and the acts on it.

A partner is shown with its sub accounts; a sub account has its own page only by its partner's.
"""

from collections import Counter
from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts import accounts as acts
from segments.console.application import Page
from segments.console.faults import Lost
from segments.console.formats import sentence
from segments.console.pages.acting import withdrawn
from segments.console.pages.deliveries import row_of
from segments.console.visit import Visit, see_other
from segments.ledger import accounts, audiences, quotas, recipients, users
from segments.ledger.database.engine import reading
from segments.ledger.external_audience import orgs
from segments.ledger.job_list import JobFilter, job_page
from segments.ledger.live_audience import ssh_keys
from segments.ledger.privacy.audit_list import AuditFilter, audit_page
from segments.model.account import PARTNER_KINDS, Account, AccountKind
from segments.model.audience import AudienceState
from segments.model.refusal import Refusal
from segments.model.role import Role

_LATEST = 10
_MAX_DIGITS = 9
_PATH = "/ops/partners/{partner}"


def partner_pages() -> list[Page]:
    """Return the pages."""
    operator = (Role.OPERATOR,)
    return [
        Page("GET", "/ops/partners", show_all, operator),
        Page("POST", "/ops/partners", add, operator),
        Page("GET", _PATH, show, operator),
        Page("POST", f"{_PATH}/activate", activate, operator),
        Page("POST", f"{_PATH}/deactivate", deactivate, operator),
        Page("POST", f"{_PATH}/relate", relate, operator),
        Page("POST", f"{_PATH}/unrelate", unrelate, operator),
    ]


async def show_all(visit: Visit) -> web.Response:
    """Show all partners."""
    return await _list_page(visit)


async def add(visit: Visit) -> web.Response:
    """Add a partner, or a sub account of one."""
    segtax = visit.text("segtax")
    try:
        if segtax and not (segtax.isascii() and segtax.isdecimal() and len(segtax) <= _MAX_DIGITS):
            raise Refusal("segtax is a whole number, or nothing")
        if visit.text("kind") not in PARTNER_KINDS:
            raise Refusal("choose a kind of the list")
        async with visit.console.services.ledger.begin() as conn:
            parent = visit.text("parent")
            added = await acts.add_account(
                conn,
                visit.by,
                AccountKind(visit.text("kind")),
                visit.text("public_id"),
                visit.text("name"),
                parent=await accounts.partner(conn, parent) if parent else None,
                segtax=int(segtax) if segtax else None,
            )
    except Refusal as refusal:
        return await _list_page(visit, str(refusal))
    await visit.console.services.publish_catalog()
    return see_other(_url(added), done="saved")


async def show(visit: Visit) -> web.Response:
    """Show one partner or sub account."""
    async with reading(visit.console.services.ledger) as conn:
        account = await _account(conn, visit)
        every = {each.id: each for each in await accounts.accounts(conn)}
        partner = await accounts.partner_of(conn, account)
        own = [account, *await accounts.below(conn, account)]
        own_ids = {each.id for each in own}
        found = [each for each in await audiences.audiences(conn) if each.owner_id in own_ids]
        relations = await accounts.relations(conn)
        jobs = await job_page(conn, JobFilter(account), limit=_LATEST)
        values: dict[str, Any] = {
            "recipients": await recipients.granted(conn, partner),
            "users": await users.listed(conn, list(own_ids), now_s=visit.now_s),
            "keys": await ssh_keys.listed(conn, account),
            "credentials": [
                each for each in await orgs.credentials(conn) if each.sandbox.account_id in own_ids
            ],
            "quota": await quotas.quota_of(conn, partner.id),
            "entries": (await audit_page(conn, AuditFilter(account), limit=_LATEST)).rows,
        }
    related = {publisher for publisher, owner in relations if owner == account.id}
    names = {each.id: each.name for each in found}
    return visit.page(
        "partner.html",
        account=account,
        at=_url(account),
        parent=None if account.parent_id is None else every[account.parent_id],
        below=own[1:],
        in_bids=sum(each.state is AudienceState.ACTIVE for each in found),
        audiences=len(found),
        publishers=[every[each] for each in sorted(related)],
        others=[
            each
            for each in every.values()
            if each.kind is AccountKind.PUBLISHER and each.id not in related
        ],
        rows=[row_of(job, names, every, is_partners=False) for job in jobs.rows],
        **values,
    )


async def activate(visit: Visit) -> web.Response:
    """Show the partner's segments again."""
    async with visit.console.services.ledger.begin() as conn:
        found = await _account(conn, visit)
        await acts.set_account_active(conn, visit.by, found, is_active=True)
    await visit.console.services.publish_catalog()
    return see_other(_url(found), done="saved")


async def deactivate(visit: Visit) -> web.Response:
    """Hide the partner's segments; its opt-outs stay in force."""
    async with visit.console.services.ledger.begin() as conn:
        found = await _account(conn, visit)
        await acts.set_account_active(conn, visit.by, found, is_active=False)
    return see_other(_url(found), done=await withdrawn(visit, "saved"))


async def relate(visit: Visit) -> web.Response:
    """Let a publisher's opt-outs reach the partner."""
    async with visit.console.services.ledger.begin() as conn:
        found = await _account(conn, visit)
        publisher = await accounts.publisher(conn, visit.text("publisher"))
        await acts.relate(conn, visit.by, publisher, found)
    return see_other(_url(found), done=await withdrawn(visit, "saved"))


async def unrelate(visit: Visit) -> web.Response:
    """Let a publisher's opt-outs reach the partner no longer."""
    async with visit.console.services.ledger.begin() as conn:
        found = await _account(conn, visit)
        publisher = await accounts.publisher(conn, visit.text("publisher"))
        await acts.unrelate(conn, visit.by, publisher, found)
    await visit.console.services.publish_catalog()
    return see_other(_url(found), done="saved")


async def _list_page(visit: Visit, error: str = "") -> web.Response:
    async with reading(visit.console.services.ledger) as conn:
        every = [each for each in await accounts.accounts(conn) if each.kind in PARTNER_KINDS]
        segments: dict[int, int] = {}
        for audience in await audiences.audiences(conn):
            if audience.state is AudienceState.ACTIVE:
                segments[audience.owner_id] = segments.get(audience.owner_id, 0) + 1
        granted = Counter(
            partner_id
            for recipient in await recipients.recipients(conn)
            for partner_id in recipient.partner_ids
        )
    names = {each.id: each for each in every}
    rows = [
        (each, names.get(each.parent_id or 0), segments.get(each.id, 0), granted[each.id])
        for each in every
    ]
    typed = {name: visit.text(name) for name in ("kind", "public_id", "name", "parent", "segtax")}
    return visit.page(
        "partners.html",
        status=422 if error else 200,
        error=sentence(error),
        rows=rows,
        parents=[each for each in every if each.parent_id is None],
        kinds=sorted(kind.value for kind in PARTNER_KINDS),
        typed=typed,
    )


async def _account(conn: AsyncConnection, visit: Visit) -> Account:
    """Return the account of the URL: the ledger's number of a partner or a sub account."""
    wanted = visit.request.match_info["partner"]
    for each in await accounts.accounts(conn):
        if str(each.id) == wanted and each.kind in PARTNER_KINDS:
            return each
    raise Lost


def _url(account: Account) -> str:
    return f"/ops/partners/{account.id}"
