"""Recipients: the partners granted to each, and its hold-out."""

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts import recipients as acts
from segments.console.application import Page
from segments.console.bid_figures import GROUPS, by_recipient, reasons
from segments.console.pages.acting import withdrawn
from segments.console.visit import Visit, see_other
from segments.ledger import accounts, audiences, recipients
from segments.ledger.database.engine import reading
from segments.ledger.privacy.audit_list import AuditFilter, audit_page
from segments.ledger.recipients import Recipient
from segments.model.account import PARTNER_KINDS, Account
from segments.model.audience import AudienceState
from segments.model.refusal import Refusal
from segments.model.role import Role

_OPERATOR = (Role.OPERATOR,)
_LATEST = 10
_PATH = "/ops/recipients/{name}"


def recipient_pages() -> list[Page]:
    """Return the pages."""
    return [
        Page("GET", "/ops/recipients", show_all, _OPERATOR),
        Page("POST", "/ops/recipients", add, _OPERATOR),
        Page("GET", _PATH, show, _OPERATOR),
        Page("POST", f"{_PATH}/grant", grant, _OPERATOR),
        Page("POST", f"{_PATH}/revoke", revoke, _OPERATOR),
        Page("POST", f"{_PATH}/hold-out", set_hold_out, _OPERATOR),
        Page("POST", f"{_PATH}/activate", activate, _OPERATOR),
        Page("POST", f"{_PATH}/deactivate", deactivate, _OPERATOR),
    ]


async def show_all(visit: Visit) -> web.Response:
    """Show all recipients."""
    return await _list_page(visit)


async def add(visit: Visit) -> web.Response:
    """Add a recipient, which sees nothing yet."""
    try:
        async with visit.console.services.ledger.begin() as conn:
            added = await acts.add_recipient(conn, visit.by, visit.text("name"))
    except Refusal as refusal:
        return await _list_page(visit, str(refusal))
    await visit.console.services.publish_catalog()
    return see_other(_url(added), done="saved")


async def show(visit: Visit) -> web.Response:
    """Show one recipient, and the partners that it sees or could see."""
    async with reading(visit.console.services.ledger) as conn:
        found = await _recipient(conn, visit)
        partners = [each for each in await accounts.accounts(conn) if _is_partner(each)]
        segments: dict[int, int] = {}
        for audience in await audiences.audiences(conn):
            if audience.state is AudienceState.ACTIVE:
                segments[audience.partner_id] = segments.get(audience.partner_id, 0) + 1
        wanted = AuditFilter(target=found.name, subject="recipient")
        trail = await audit_page(conn, wanted, limit=_LATEST)
    rows = [(each, segments.get(each.id, 0), each.id in found.partner_ids) for each in partners]
    figures = visit.console.history.figures()
    counted = [each for each in by_recipient(figures, [found.name]) if each.name == found.name]
    return visit.page(
        "recipient.html",
        bids=counted,
        groups=GROUPS,
        recent_s=figures.recent_s,
        is_read=bool(figures.readings),
        reasons=reasons(figures.recent, found.name),
        entries=trail.rows,
        recipient=found,
        rows=sorted(rows, key=lambda row: (not row[2], row[0].public_id)),
        seen=sum(count for _, count, is_granted in rows if is_granted),
    )


async def grant(visit: Visit) -> web.Response:
    """Grant a partner's segments."""
    async with visit.console.services.ledger.begin() as conn:
        found = await _recipient(conn, visit)
        await acts.grant(conn, visit.by, found, await _partner(conn, visit))
    await visit.console.services.publish_catalog()
    return see_other(_url(found), done="granted")


async def revoke(visit: Visit) -> web.Response:
    """Withdraw a partner's segments."""
    async with visit.console.services.ledger.begin() as conn:
        found = await _recipient(conn, visit)
        await acts.revoke(conn, visit.by, found, await _partner(conn, visit))
    return see_other(_url(found), done=await withdrawn(visit, "revoked"))


async def set_hold_out(visit: Visit) -> web.Response:
    """Set the fraction of persons in the hold-out."""
    text = visit.text("percent").replace(",", ".")
    try:
        share = float(text) / 100
    except ValueError:
        raise Refusal("a hold-out is a number of percent, 0 to 100") from None
    async with visit.console.services.ledger.begin() as conn:
        found = await _recipient(conn, visit)
        await acts.set_hold_out(conn, visit.by, found, round(share, 6))
    return see_other(_url(found), done=await withdrawn(visit, "saved"))


async def activate(visit: Visit) -> web.Response:
    """Answer the recipient's URL again."""
    async with visit.console.services.ledger.begin() as conn:
        found = await _recipient(conn, visit)
        await acts.set_recipient_active(conn, visit.by, found, is_active=True)
    await visit.console.services.publish_catalog()
    return see_other(_url(found), done="saved")


async def deactivate(visit: Visit) -> web.Response:
    """Answer the recipient's URL with 404."""
    async with visit.console.services.ledger.begin() as conn:
        found = await _recipient(conn, visit)
        await acts.set_recipient_active(conn, visit.by, found, is_active=False)
    return see_other(_url(found), done=await withdrawn(visit, "saved"))


async def _list_page(visit: Visit, error: str = "") -> web.Response:
    async with reading(visit.console.services.ledger) as conn:
        listed = await recipients.recipients(conn)
        partners = [each for each in await accounts.accounts(conn) if _is_partner(each)]
    figures = visit.console.history.figures()
    return visit.page(
        "recipients.html",
        bids={each.name: each for each in by_recipient(figures, ())},
        is_read=bool(figures.readings),
        status=422 if error else 200,
        rows=listed,
        partners=len(partners),
        name=visit.text("name"),
        error=error[:1].upper() + error[1:],
    )


async def _recipient(conn: AsyncConnection, visit: Visit) -> Recipient:
    return await recipients.recipient(conn, visit.request.match_info["name"])


async def _partner(conn: AsyncConnection, visit: Visit) -> Account:
    return await accounts.partner(conn, visit.text("partner"))


def _is_partner(account: Account) -> bool:
    return account.kind in PARTNER_KINDS and account.parent_id is None


def _url(found: Recipient) -> str:
    return f"/ops/recipients/{found.name}"
