"""
The privacy desk: a person's request is submitted, or only checked.

The desk alone takes addresses and hashes them; they are forgotten with the answer. A request is
acknowledged once it is in force, as at the Privacy API.
"""

from typing import Any

from aiohttp import web
from multidict import MultiDict

from segments.console.application import Page
from segments.console.formats import sentence
from segments.console.pages.acting import asks_again, wrong_code
from segments.console.privacy_agent import agent_of, visible_to
from segments.console.typed_ids import ids_of
from segments.console.visit import Visit
from segments.doors.privacy.agent import Agent
from segments.doors.privacy.schemas import DsrAction
from segments.doors.privacy.submission import Asked
from segments.doors.rest.not_in_force import NotInForceYet
from segments.ledger import accounts
from segments.ledger.backlog import longest_unscrubbed_since_s
from segments.ledger.database.engine import reading
from segments.ledger.privacy import access_requests
from segments.ledger.privacy.access_requests import AccessRequestState
from segments.model.account import Account
from segments.model.refusal import Refusal
from segments.model.role import Role

_MAX_REFERENCE_CHARS = 128
_JURISDICTIONS = ("EU_PRIVACY", "US_PRIVACY")


def privacy_pages() -> list[Page]:
    """Return the pages."""
    desk = (Role.PRIVACY,)
    return [
        Page("GET", "/privacy", show, desk),
        Page("POST", "/privacy", submit, desk),
    ]


async def show(visit: Visit) -> web.Response:
    """Show the form of a request, and what was promised to persons."""
    return await _form(visit, await agent_of(visit))


async def submit(visit: Visit) -> web.Response:
    """Submit a request, or only check it."""
    agent = await agent_of(visit)
    submissions = visit.console.submissions
    try:
        asked = await _asked(visit, agent)
    except Refusal as refusal:
        return await _form(visit, agent, error=str(refusal))
    if visit.text("do") == "check":
        await submissions.check(agent, asked)
        return await _form(visit, agent, checked=len(asked.ids))
    if asked.action is DsrAction.ERASURE:
        if visit.text("confirm") != DsrAction.ERASURE:
            return await _form(visit, agent, confirms=True)
        error = await wrong_code(visit)
        if error:
            return await _form(visit, agent, confirms=True, error=error)
    waits = False
    try:
        transaction_id = await submissions.submit(agent, asked)
    except NotInForceYet as late:
        transaction_id, waits = late.members["transactionId"], True
    visit = visit._replace(form=MultiDict())  # what was typed is forgotten
    return await _form(
        visit, agent, submitted=asked.action.value, transaction_id=transaction_id, waits=waits
    )


async def _asked(visit: Visit, agent: Agent) -> Asked:
    """
    Return what the form asks for.

    Raises:
        Refusal: A field is missing or wrong; the message quotes none.
    """
    action, jurisdiction = visit.text("action"), visit.text("jurisdiction")
    reference = visit.text("reference")
    if action not in list(DsrAction):
        raise Refusal("choose what the person asks for")
    if jurisdiction and jurisdiction not in _JURISDICTIONS:
        raise Refusal("choose a jurisdiction of the list")
    if len(reference) > _MAX_REFERENCE_CHARS or not reference.isprintable():
        raise Refusal(f"a reference is a line of up to {_MAX_REFERENCE_CHARS} characters")
    if "@" in reference:
        raise Refusal("a reference names your ticket, and not the person: it has an @")
    reach, chosen = visit.text("reach"), None
    if reach:
        reached = {str(each.id): each for each in await _reachable(visit, agent)}
        if reach not in reached:
            raise Refusal("choose a reach of the list")
        chosen = reached[reach]
    return Asked(
        DsrAction(action),
        tuple(each.subject for each in ids_of(visit.text("ids"))),
        scope=chosen,
        jurisdiction=jurisdiction or None,
        reference=reference or None,
    )


async def _reachable(visit: Visit, agent: Agent) -> list[Account]:
    """Return the accounts to which a desk may narrow a request."""
    async with reading(visit.console.services.ledger) as conn:
        tree = await accounts.tree(conn)
        every_account = await accounts.accounts(conn)
    visible = visible_to(agent, tree)
    return [each for each in every_account if visible is None or each.id in visible]


async def _form(visit: Visit, agent: Agent, *, error: str = "", **said: Any) -> web.Response:
    promises = None
    if agent.account is None:  # numbers of the deployment
        waiting = await visit.console.services.waiting.look()
        rate = await visit.console.flood.look()
        async with reading(visit.console.services.ledger) as conn:
            since_s = await longest_unscrubbed_since_s(conn)
            ready = await access_requests.count(conn, AccessRequestState.COMPLETED)
            pending = await access_requests.count(conn, AccessRequestState.PENDING)
        promises = {
            "waiting": waiting.requests,
            "oldest_s": waiting.oldest_s,
            "unscrubbed_s": None if since_s is None else max(0.0, visit.now_s - since_s),
            "ready": ready,
            "pending": pending,
            "per_minute": rate.now,
            "usual": rate.usual,
        }
    values = {
        "submitted": "",
        "transaction_id": "",
        "waits": False,
        "checked": 0,
        "confirms": False,
        **said,
    }
    return visit.page(
        "privacy.html",
        status=422 if error else 200,
        error=sentence(error),
        reachable=await _reachable(visit, agent),
        account=agent.account,
        jurisdictions=_JURISDICTIONS,
        typed={
            name: visit.text(name)
            for name in ("action", "ids", "reach", "jurisdiction", "reference")
        },
        asks_again=asks_again(visit),
        promises=promises,
        **values,
    )
