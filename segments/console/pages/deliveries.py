"""
Deliveries: what became of a file, and what to do; before them, files that were only announced.

Partners see those of their account, operators all. A partner reads only facts that the file alone
decides (`segments.model.partner_numbers`), and not the brake's finding, which counts members.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aiohttp import web
from markupsafe import Markup
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts import jobs as acts
from segments.console.application import Page
from segments.console.faults import Lost
from segments.console.formats import number, sentence, size
from segments.console.pages.acting import asks_again, check_again
from segments.console.partner_secret import secret_of
from segments.console.visit import Visit, see_other
from segments.doors.live_audience.status import is_described
from segments.ledger import accounts, audience_counts, audiences, jobs
from segments.ledger.audience_list import AudienceFilter, ListedAudience, audience_page
from segments.ledger.database.engine import reading
from segments.ledger.expected_files import ExpectedFile, expected_files
from segments.ledger.job_list import JobFilter, job_of_account, job_page
from segments.ledger.pages import DEFAULT_LIMIT, MAX_LIMIT
from segments.model.account import Account
from segments.model.audience_count import AudienceCount
from segments.model.job import Job, JobState
from segments.model.order import SegmentAction, SegmentOrder
from segments.model.partner_numbers import FileNumbers, members_of, of_file
from segments.model.record import NO_EXPIRY, began_at_s
from segments.model.role import Role
from segments.model.stop_reason import UNTOLD

_MAX_REASON_CHARS = 300
_TABS = {
    "": ("All", ()),
    "moving": ("Under way", (JobState.QUEUED, JobState.RUNNING)),
    "held": ("Held", (JobState.HELD,)),
    "failed": ("Failed", (JobState.FAILED,)),
    "done": ("Done", (JobState.DONE,)),
}
DOOR_TO_WORD = {
    "audience api": "API",
    "command line": "operator",
    "console": "upload",
    "external audiences": "storage",
    "sftp": "SFTP",
}


class Step(NamedTuple):
    """A stage of a delivery."""

    name: str
    at_s: float | None
    said: str | Markup = ""
    kind: str = ""  # now, stop, later


class Row(NamedTuple):
    """A delivery, as its page and the lists show it."""

    job: Job
    numbers: FileNumbers
    by: str
    does: str  # adds, removes
    targets: list[str]  # names of audiences, or segment ids
    told: str  # the next step, or the progress
    partner: str


class Target(NamedTuple):
    """An audience or a segment that a delivery changes."""

    segment_id: str
    audience_id: int | None
    name: str
    does: str  # adds, removes
    until_s: float | None  # the last day of its new members; `None`: for good, or not known yet
    members: int | None  # as last counted: to a partner in hundreds, `None` under 1,000
    is_counted: bool


class Listing(NamedTuple):
    """A page of the list."""

    rows: list[Row]
    next_cursor: str | None
    audiences: Sequence[ListedAudience]  # to choose from


def delivery_pages() -> list[Page]:
    """Return the pages."""
    return [
        Page("GET", "/deliveries", show_all, (Role.PARTNER,)),
        Page("GET", "/deliveries/{transaction}", show, (Role.PARTNER,)),
        Page("GET", "/ops/deliveries", show_all, (Role.OPERATOR,)),
        Page("GET", "/ops/deliveries/{transaction}", show, (Role.OPERATOR,)),
        Page("POST", "/ops/deliveries/{transaction}/release", release, (Role.OPERATOR,)),
        Page("POST", "/ops/deliveries/{transaction}/refuse", refuse, (Role.OPERATOR,)),
    ]


async def listing(visit: Visit, cursor: str | None, limit: int = DEFAULT_LIMIT) -> Listing:
    """Return a page of the list that the URL asks for."""
    query, account = visit.request.query, account_of(visit)
    _, states = _TABS.get(query.get("state", ""), _TABS[""])
    wanted = JobFilter(account, states, visit.chosen("audience"), text=query.get("q", "").strip())
    async with reading(visit.console.services.ledger) as conn:
        page = await job_page(conn, wanted, limit=limit, cursor=cursor)
        choice = await audience_page(conn, AudienceFilter(account), limit=MAX_LIMIT)
        partners = {each.id: each for each in await accounts.accounts(conn)}
    names = {each.audience.id: each.audience.name for each in choice.rows}
    rows = [row_of(job, names, partners, is_partners=account is not None) for job in page.rows]
    return Listing(rows, page.next_cursor, choice.rows)


async def show_all(visit: Visit) -> web.Response:
    """Show a page of the list."""
    query = visit.request.query
    tab, text, audience = (query.get(name, "").strip() for name in ("state", "q", "audience"))
    found = await listing(visit, query.get("cursor"))
    return visit.live_page(
        "deliveries.html",
        str(visit.request.rel_url),
        is_moving=any(row.job.state in _TABS["moving"][1] for row in found.rows),
        base=base_of(visit),
        rows=found.rows,
        next_cursor=found.next_cursor,
        tabs=[(name, word) for name, (word, _) in _TABS.items()],
        tab=tab,
        text=text,
        audience=audience,
        audiences=found.audiences,
        is_filtered=bool(tab or text or audience),
        expected=await _expected(visit) if _shows_expected(visit) else (),
    )


async def show(visit: Visit) -> web.Response:
    """Show one delivery."""
    account = account_of(visit)
    async with reading(visit.console.services.ledger) as conn:
        job = await job_of(visit, conn)
        partners = {each.id: each for each in await accounts.accounts(conn)}
        ids = [each.audience_id for each in job.order.segments if each.audience_id is not None]
        named = await audiences.audiences_of_ids(conn, ids[:MAX_LIMIT])
        counts = await audience_counts.last_counts(conn, [each.id for each in named])
        before = await jobs.unfinished_before(conn, job) if job.state is JobState.QUEUED else ()
    secret = None if account is None else await secret_of(visit)
    names = {each.id: each.name for each in named}
    return visit.live_page(
        "delivery.html",
        visit.request.path,
        is_moving=job.state in {JobState.QUEUED, JobState.RUNNING},
        base=base_of(visit),
        row=row_of(job, names, partners, is_partners=account is not None),
        job=job,
        steps=steps_of(job),
        bad=bad_lines_of(job),
        is_described=is_described(job),
        targets=[_target(job, each, names, counts, secret) for each in job.order.segments],
        behind=len(before),
        is_behind_held=any(each.state is JobState.HELD for each in before),
        is_operators=account is None,
        asks_again=asks_again(visit),
    )


async def release(visit: Visit) -> web.Response:
    """Let a held job go on."""
    await check_again(visit)
    async with visit.console.services.ledger.begin() as conn:
        job = await job_of(visit, conn)
        await acts.release(conn, visit.by, job, _reason(visit))
    return see_other(f"{base_of(visit)}/{job.transaction_id}", done="released")


async def refuse(visit: Visit) -> web.Response:
    """End a held job."""
    await check_again(visit)
    async with visit.console.services.ledger.begin() as conn:
        job = await job_of(visit, conn)
        await acts.refuse(conn, visit.by, job, _reason(visit))
    return see_other(f"{base_of(visit)}/{job.transaction_id}", done="refused")


def row_of(
    job: Job, names: dict[int, str], partners: dict[int, Account], *, is_partners: bool
) -> Row:
    """Return the row of a delivery."""
    actions = sorted({segment.action.value for segment in job.order.segments})
    return Row(
        job,
        of_file(job.report),
        DOOR_TO_WORD.get(job.door, job.door),
        " and ".join({"add": "adds", "remove": "removes"}[action] for action in actions),
        [
            names.get(segment.audience_id or 0) or segment.name or segment.segment_id
            for segment in job.order.segments
        ],
        sentence(_told(job, is_partners=is_partners)),
        partners[job.partner_id].public_id,
    )


def steps_of(job: Job) -> list[Step]:
    """Return the stages of a delivery, the last one "in bids"."""
    report = job.report
    is_over = job.state in {JobState.DONE, JobState.FAILED}
    size_bytes = report.size_bytes or job.delivered_bytes
    steps = [Step("Received", job.created_at_s, size(size_bytes) if size_bytes else "")]
    read = Markup("{} lines, {} of them bad").format(number(report.rows), number(report.bad))
    written = Markup("{} rows/s").format(number(round(report.rows_per_s)))
    known = (
        ("Read", report.read_at_s, read),
        ("Checked", report.checked_at_s, _checked(job)),
        ("Written", report.written_at_s, written if report.rows_per_s else ""),
        (
            "In bids",
            job.finished_at_s if job.state is JobState.DONE else None,
            "from this second on",
        ),
    )
    for name, at_s, said in known:
        if at_s is not None:
            steps.append(Step(name, at_s, said))
        elif not is_over:
            is_next = not steps[-1].kind
            waits = job.state in {JobState.QUEUED, JobState.HELD}
            steps.append(Step(name, None, kind="now" if is_next and not waits else "later"))
    if job.state is JobState.FAILED:
        steps.append(Step("Failed", job.finished_at_s, kind="stop"))
    return steps


def _told(job: Job, *, is_partners: bool) -> str:
    if job.state is JobState.HELD:
        if is_partners:
            return "It would remove so many members that an operator has to let it go on."
        return job.report.held_because
    if job.state is JobState.FAILED and job.stop is not None:
        detail = (job.error or "").partition(": ")[2]
        is_told = detail and not (is_partners and job.stop in UNTOLD)
        return f"{detail}. {job.stop.advice}" if is_told else job.stop.advice
    return ""


def _checked(job: Job) -> str:
    """Say what let a job go on to write."""
    if job.checkpoint.is_released:
        return "an operator let it go on"
    if all(segment.action is SegmentAction.ADD for segment in job.order.segments):
        return "removes nobody: nothing to hold"
    return "removes no more than may go unseen"


def _shows_expected(visit: Visit) -> bool:
    """Tell whether a list shows files without a delivery: on its first page, without a filter."""
    query = visit.request.query
    return query.get("state", "") in {"", "moving"} and not any(
        query.get(name) for name in ("q", "audience", "cursor")
    )


async def _expected(visit: Visit) -> list[ExpectedFile]:
    async with reading(visit.console.services.ledger) as conn:
        return await expected_files(conn, account_of(visit), now_s=visit.now_s)


def _target(
    job: Job,
    segment: SegmentOrder,
    names: Mapping[int, str],
    counts: Mapping[int, AudienceCount],
    secret: bytes | None,
) -> Target:
    """Return what a delivery does to a segment; with `secret`, in a partner's numbers."""
    planned = next(
        (
            each
            for each in job.report.segments
            if (each.segment_id, each.action) == (segment.segment_id, segment.action)
        ),
        None,
    )
    is_add = segment.action is SegmentAction.ADD
    holds = is_add and planned is not None and planned.expiry_day != NO_EXPIRY
    count = counts.get(segment.audience_id or 0)
    members = None if count is None else count.members
    if count is not None and secret is not None:
        members = members_of(count.audience_id, count.day, count.members, secret)
    return Target(
        segment.segment_id,
        segment.audience_id,
        names.get(segment.audience_id or 0) or segment.name or segment.segment_id,
        "adds" if is_add else "removes",
        began_at_s(planned.expiry_day) if holds and planned is not None else None,
        members,
        count is not None,
    )


def bad_lines_of(job: Job) -> list[tuple[str, str, int, list[int]]]:
    """Return each reason with its words, its count and the first lines; never their content."""
    report = job.report
    counts = report.bad_by_reason or {line.reason: 0 for line in report.bad_lines}
    listed = [
        (
            reason.value.replace("_", " "),
            reason.in_words,
            count,
            [line.number for line in report.bad_lines if line.reason is reason],
        )
        for reason, count in counts.items()
    ]
    return sorted(listed, key=lambda row: -row[2])


async def job_of(visit: Visit, conn: AsyncConnection) -> Job:
    """Return the delivery of the URL, if the visitor may see it."""
    name, account = visit.request.match_info["transaction"], account_of(visit)
    if account is not None:
        found = await job_of_account(conn, account, name)
    else:
        found = await jobs.job(conn, name) if len(name) >= _TRANSACTION_CHARS else None
    if found is None:
        raise Lost
    return found


_TRANSACTION_CHARS = 16


def account_of(visit: Visit) -> Account | None:
    """Return the account whose deliveries are shown; `None`: all accounts."""
    return None if visit.request.path.startswith("/ops/") else visit.account


def base_of(visit: Visit) -> str:
    """Return the path of the visitor's list."""
    return "/deliveries" if account_of(visit) is not None else "/ops/deliveries"


def _reason(visit: Visit) -> str | None:
    return visit.text("reason")[:_MAX_REASON_CHARS] or None
