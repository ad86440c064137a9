"""
The playground: the outcome of a bid request, explained by the listeners that answer bids.

The typed request comes in the body of a POST and is shown on that answer alone. Listeners tell ids
by kind and place; the names of audiences and accounts are added here, from the ledger.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.console.application import Page, check_token
from segments.console.visit import Visit
from segments.ledger import accounts, audiences, recipients
from segments.ledger.database.engine import reading
from segments.ledger.recipients import Recipient
from segments.model.account import Account
from segments.model.audience import Audience, AudienceState
from segments.model.explained_bid import (
    WORKERS_DIFFER,
    AnswerForm,
    Asked,
    Explanation,
    Finding,
    Stage,
    State,
)
from segments.model.role import Role
from segments.upkeep.explaining import Answer, ask_all, differ, explain

_OPERATOR = (Role.OPERATOR,)
_PATH = "/ops/playground"
_MAX_CHARS = 128 << 10
_MAX_FORM_BYTES = 1 << 20
"""A form may spell a byte as three."""

_FORM_TO_WORDS = {
    AnswerForm.WHOLE: "Whole request",
    AnswerForm.PATCH: "JSON Patch",
    AnswerForm.FRAGMENT: "OpenX fragment",
}
_GOOD = ("enriched",)
_MOMENTS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%SZ")

_EXAMPLE = json.dumps(
    {
        "id": "r-1",
        "tmax": 120,
        "imp": [{"id": "1", "banner": {"w": 300, "h": 250}}],
        "site": {"publisher": {"id": "7001"}},
        "user": {"eids": [{"source": "liveintent.com", "uids": [{"id": "0123456789abcdef" * 4}]}]},
        "device": {"lmt": 0},
    },
    indent=2,
)


class Typed(NamedTuple):
    """The form's fields, as typed."""

    request: str = ""
    recipient: str = ""
    at: str = ""
    form: str = AnswerForm.WHOLE.value


class Row(NamedTuple):
    """A finding, with the names that the ledger knows."""

    what: str
    where: str
    says: str
    counts: bool
    is_added: bool


class Shown(NamedTuple):
    """A listener's answer, as the page shows it."""

    url: str
    trouble: str
    explanation: Explanation | None
    stages: Sequence[tuple[Stage, Sequence[Row]]]


class Names(NamedTuple):
    """The ledger's accounts and audiences of an explanation."""

    accounts: Mapping[int, Account]
    audiences: Mapping[int, Audience]
    recipient: Recipient | None  # `None`: the trusted caller


def playground_pages() -> list[Page]:
    """Return the pages."""
    return [
        Page("GET", _PATH, show, _OPERATOR),
        Page("POST", _PATH, ask, _OPERATOR, is_streamed=True),
    ]


async def show(visit: Visit) -> web.Response:
    """Show the form, empty or with an example."""
    return await _page(visit, Typed(_EXAMPLE if "example" in visit.request.query else ""))


async def ask(visit: Visit) -> web.Response:
    """Explain a bid."""
    request = visit.request.clone(client_max_size=_MAX_FORM_BYTES)
    visit = visit._replace(form=await request.post())
    check_token(visit)
    typed = Typed(*(visit.text(name) for name in Typed._fields))
    if not typed.request or len(typed.request) > _MAX_CHARS:
        why = f"A bid request has 1 to {_MAX_CHARS} characters"
        return await _page(visit, typed, errors={"request": why})
    at_s = _moment(typed.at)
    if typed.at and at_s is None:
        return await _page(visit, typed, errors={"at": "Such as 2026-11-29 11:42:00, in UTC"})
    form = AnswerForm(typed.form) if typed.form in set(AnswerForm) else AnswerForm.WHOLE
    asked = Asked(typed.request, typed.recipient or None, at_s, form)
    console = visit.console
    asking = partial(ask_all, console.listeners)
    answers = await explain(console.services.ledger, visit.by, asked, asking)
    return await _page(visit, typed, answers)


async def _page(
    visit: Visit,
    typed: Typed,
    answers: Sequence[Answer] = (),
    errors: Mapping[str, str] | None = None,
) -> web.Response:
    given = [answer.explanation for answer in answers if answer.explanation is not None]
    async with reading(visit.console.services.ledger) as conn:
        listed = await recipients.recipients(conn)
        names = await _names(conn, given, listed)
    shown = []
    for answer in answers:
        stages = () if answer.explanation is None else answer.explanation.stages
        rows = [(stage, [_row(finding, names) for finding in stage.findings]) for stage in stages]
        shown.append(Shown(answer.url, answer.trouble, answer.explanation, rows))
    is_different = differ(answers)
    return visit.page(
        "playground.html",
        status=422 if errors else 200,
        typed=typed,
        errors=errors or {},
        recipients=[each.name for each in listed if each.is_active],
        forms=[(form.value, words) for form, words in _FORM_TO_WORDS.items()],
        # Equal answers are shown once, beside listeners without an answer.
        shown=shown if is_different else _once(shown),
        is_different=is_different,
        workers_differ=WORKERS_DIFFER,
        good=_GOOD,
        max_chars=_MAX_CHARS,
        stopped=State.STOPPED.value,
    )


def _once(shown: Iterable[Shown]) -> list[Shown]:
    kept: list[Shown] = []
    for each in shown:
        if each.explanation is None or all(one.explanation is None for one in kept):
            kept.append(each)
    return kept


async def _names(
    conn: AsyncConnection, given: Iterable[Explanation], listed: Iterable[Recipient]
) -> Names:
    findings = [finding for one in given for stage in one.stages for finding in stage.findings]
    numbers = {each.audience_id for each in findings if each.audience_id is not None}
    asked_by = {one.recipient for one in given}
    return Names(
        {each.id: each for each in await accounts.accounts(conn)},
        {each.id: each for each in await audiences.audiences_of_ids(conn, numbers)},
        next((each for each in listed if each.name in asked_by), None),
    )


def _row(finding: Finding, names: Names) -> Row:
    what, where, says = finding.what, finding.where, finding.says
    if finding.account_id is not None and finding.account_id in names.accounts:
        account = names.accounts[finding.account_id]
        where = f"by {account.kind.in_words} {account.public_id}"
    if finding.audience_id is not None:
        found = names.audiences.get(finding.audience_id)
        if found is not None:
            what = f"{what.partition(' (')[0]} {found.name}" if where else found.name
        if not where:
            # The catalog has no such segment: the ledger says why.
            where, says = _outside_catalog(found, names)
    return Row(what, where, says, finding.counts, finding.is_added)


def _outside_catalog(audience: Audience | None, names: Names) -> tuple[str, str]:
    """Return the partner of an audience, and why the catalog lacks it."""
    if audience is None:
        return "", "an audience that the ledger does not know"
    partner = names.accounts.get(audience.partner_id)
    owner = names.accounts.get(audience.owner_id)
    where = "" if partner is None else partner.public_id
    if audience.state is not AudienceState.ACTIVE:
        return where, f"its audience is {audience.state.value}"
    if not all(each is not None and each.is_active for each in (partner, owner)):
        return where, "its partner is deactivated"
    if names.recipient is not None and audience.partner_id not in names.recipient.partner_ids:
        return where, f"{where} is not granted to {names.recipient.name}"
    return where, "not in the catalog yet"


def _moment(text: str) -> float | None:
    for form in _MOMENTS:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
        except ValueError:
            continue
    return None
