"""
Persons' requests: looked up, read, and their reports downloaded.

A person's typed ids are in the body of a POST, and shown again on that answer alone. No URL and no
log has them, and rows have only salted digests.
"""

import re
from typing import NamedTuple

from aiohttp import web

from segments.acts import privacy as acts
from segments.console.application import Page
from segments.console.faults import Lost
from segments.console.formats import sentence
from segments.console.pages.trail import trail_csv, trail_page, wanted_of
from segments.console.privacy_agent import agent_of, visible_to
from segments.console.standing import standings
from segments.console.typed_ids import ids_of, kind_in_words
from segments.console.visit import Visit
from segments.doors.privacy.agent import Agent
from segments.ledger import accounts
from segments.ledger.database.engine import reading
from segments.ledger.privacy import subject_requests
from segments.ledger.privacy.access_requests import AccessRequestState
from segments.ledger.privacy.audit_list import AuditFilter, audit_page
from segments.ledger.privacy.subject_requests import ACCESS, SubjectRequest
from segments.model.account import AccountTree
from segments.model.refusal import Refusal
from segments.model.role import Role

_MAX_FOUND = 200
_TRANSACTION_ID = re.compile(r"[0-9a-f]{32}")


class Told(NamedTuple):
    """A request, as a row and as a page."""

    request: SubjectRequest
    reach: str
    state: tuple[str, str, str]  # as `parts.state` takes it


def person_request_pages() -> list[Page]:
    """Return the pages."""
    desk = (Role.PRIVACY,)
    return [
        Page("GET", "/privacy/look-up", show_look_up, desk),
        Page("POST", "/privacy/look-up", look_up, desk),
        Page("GET", "/privacy/requests/{transaction}", show_request, desk),
        Page("POST", "/privacy/requests/{transaction}/report", download, desk),
        Page("GET", "/privacy/trail", show_trail, desk),
        Page("GET", "/privacy/trail.csv", export_trail, desk),
    ]


async def show_look_up(visit: Visit) -> web.Response:
    """Show the form of a look-up."""
    await agent_of(visit)
    return visit.page("privacy_look_up.html", ids="", found=None, now=None)


async def look_up(visit: Visit) -> web.Response:
    """Show all requests about a person, and what bids show now."""
    agent = await agent_of(visit)
    services = visit.console.services
    typed = visit.text("ids")
    try:
        named = ids_of(typed)
    except Refusal as refusal:
        return visit.page(
            "privacy_look_up.html", status=422, ids=typed, found=None, now=None,
            error=sentence(str(refusal)),
        )  # fmt: skip
    ids = [each.subject.id for each in named]
    async with services.ledger.begin() as conn:
        await acts.search(conn, visit.by, ids, agent.account)
        tree = await accounts.tree(conn)
        visible = visible_to(agent, tree)
        found = await subject_requests.of_ids(conn, ids, visible, limit=_MAX_FOUND)
    now = await standings(services.redis, ids, tree, visible)
    return visit.page(
        "privacy_look_up.html",
        ids=typed,
        found=[_told(each, tree) for each in found],
        now=None if now is None else list(zip([each.words for each in named], now, strict=True)),
    )


async def show_request(visit: Visit) -> web.Response:
    """Show one request: whether it is in force, its report, and its entries in the trail."""
    found, tree = await _request(visit)
    async with visit.console.services.ledger.begin() as conn:
        await acts.note_read(conn, visit.by, "read", found.transaction_id, found.account_id)
        entries = await audit_page(conn, AuditFilter(transaction_id=found.transaction_id))
    kinds = [kind_in_words(kind) for kind in found.kinds]
    return visit.page(
        "privacy_request.html",
        told=_told(found, tree),
        request=found,
        kinds=kinds,
        has_report=found.access is not None and found.access.blob is not None,
        entries=entries.rows,
    )


async def download(visit: Visit) -> web.Response:
    """
    Answer with a request's report, from this page's own origin.

    The report gets no URL of its own: the session is the permission.
    """
    found, _ = await _request(visit)
    content = await visit.console.reports.read(found.transaction_id)
    async with visit.console.services.ledger.begin() as conn:
        await acts.note_read(conn, visit.by, "download", found.transaction_id, found.account_id)
    return web.Response(
        body=content,
        content_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="{found.transaction_id}.json"'},
    )


async def show_trail(visit: Visit) -> web.Response:
    """Show the entries that concern persons, newest first; no entry shows a person."""
    wanted = await _trail(visit, await agent_of(visit))
    return await trail_page(visit, "/privacy/trail", wanted)


async def export_trail(visit: Visit) -> web.Response:
    """Answer with those entries as a file."""
    agent = await agent_of(visit)
    wanted = await _trail(visit, agent)
    return await trail_csv(visit, "privacy-trail", wanted, agent.account)


async def _trail(visit: Visit, agent: Agent) -> AuditFilter:
    async with reading(visit.console.services.ledger) as conn:
        tree = await accounts.tree(conn)
    scope_ids = visible_to(agent, tree)
    return wanted_of(visit)._replace(is_about_persons=True, scope_ids=scope_ids)


async def _request(visit: Visit) -> tuple[SubjectRequest, AccountTree]:
    """Return the request of the URL, if the desk may see it."""
    agent = await agent_of(visit)
    name = visit.request.match_info["transaction"]
    async with reading(visit.console.services.ledger) as conn:
        tree = await accounts.tree(conn)
        found = None
        if _TRANSACTION_ID.fullmatch(name):
            found = await subject_requests.find(conn, name, visible_to(agent, tree))
    if found is None:
        raise Lost
    return found, tree


def _told(request: SubjectRequest, tree: AccountTree) -> Told:
    if request.account_id is None:
        reach = "everyone"
    else:
        account = tree.account(request.account_id)
        reach = f"{account.kind.in_words} {account.public_id}"
    return Told(request, reach, _state(request))


def _state(request: SubjectRequest) -> tuple[str, str, str]:
    if request.action != ACCESS:
        in_force = request.applied_at_s is not None
        return ("good", "good", "In force") if in_force else ("warn", "clock", "Not yet in force")
    state = AccessRequestState(request.status)
    return {
        AccessRequestState.PENDING: ("busy", "busy", "Report under way"),
        AccessRequestState.COMPLETED: ("good", "good", "Report ready"),
        AccessRequestState.EXPIRED: ("", "off", "Report expired"),
    }[state]
