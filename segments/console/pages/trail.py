"""The audit trail: who did what, newest first. Acts on persons show no person."""

from aiohttp import web

from segments.console.application import Page
from segments.console.visit import Visit
from segments.ledger import accounts
from segments.ledger.database.engine import reading
from segments.ledger.privacy.audit import Actor
from segments.ledger.privacy.audit_list import AuditFilter, audit_page
from segments.model.role import Role


def trail_pages() -> list[Page]:
    """Return the pages of this module."""
    return [Page("GET", "/ops/audit", show, (Role.OPERATOR,))]


async def show(visit: Visit) -> web.Response:
    """Show a page of the trail."""
    query = visit.request.query
    actor, what, result = (query.get(name, "").strip() for name in ("actor", "what", "result"))
    wanted = AuditFilter(actor=actor or None, what=what or None, result=result or None)
    async with reading(visit.console.services.ledger) as conn:
        page = await audit_page(conn, wanted, cursor=query.get("cursor"))
        names = {each.id: each.public_id for each in await accounts.accounts(conn)}
    return visit.page(
        "trail.html",
        base="/ops/audit",
        rows=page.rows,
        names=names,
        next_cursor=page.next_cursor,
        actors=[each.value for each in Actor],
        actor=actor,
        what=what,
        result=result,
        is_filtered=bool(actor or what or result),
    )
