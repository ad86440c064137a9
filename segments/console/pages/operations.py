"""An operator's first page: tasks, bids, the queue, the listeners, the checks."""

from aiohttp import web

from segments.console import bid_figures, charts, checks, formats
from segments.console.application import Page
from segments.console.pages.deliveries import row_of
from segments.console.visit import Visit
from segments.ledger import accounts, jobs, processes, recipients
from segments.ledger.backlog import longest_unscrubbed_since_s
from segments.ledger.database.engine import reading
from segments.ledger.job_list import JobFilter, job_page
from segments.model.job import JobState
from segments.model.role import Role
from segments.upkeep.doctor.findings import Grade

_SCRUB_IS_LATE_S = 18 * 3600.0
"""Of the 24 hours that are promised; a loader takes erased ids out of files after 12."""

_TOLD_APART = ("jobs:", "processes:")
"""Of these findings each has a row of its own, with its act."""

_AT_WORK = (JobState.RUNNING, JobState.QUEUED)
_GRADE_TO_STATE = {
    Grade.GOOD: ("good", "good", "Good"),
    Grade.POOR: ("warn", "warn", "Look"),
    Grade.BAD: ("bad", "bad", "Bad"),
}


def operation_pages() -> list[Page]:
    """Return the pages."""
    return [
        Page("GET", "/ops", show, (Role.OPERATOR,)),
        Page("GET", "/ops/checks", check, (Role.OPERATOR,)),
    ]


async def show(visit: Visit) -> web.Response:
    """Show the operator's tasks, the outcomes of bids, and the queue."""
    services = visit.console.services
    async with reading(services.ledger) as conn:
        held = await jobs.held(conn)
        queue = await job_page(conn, JobFilter(states=_AT_WORK))
        partners = {each.id: each for each in await accounts.accounts(conn)}
        behind = await jobs.count_behind_held(conn)
        unscrubbed_since_s = await longest_unscrubbed_since_s(conn)
        found = await processes.processes(conn)
        names = [each.name for each in await recipients.recipients(conn) if each.is_active]
    waiting = await services.waiting.look()
    opt_outs = await visit.console.flood.look()
    figures = visit.console.history.figures()
    unscrubbed_s = 0.0 if unscrubbed_since_s is None else visit.now_s - unscrubbed_since_s
    is_late = unscrubbed_s > _SCRUB_IS_LATE_S
    running = [(each, each.is_unseen(visit.now_s)) for each in found]
    heard = bid_figures.listeners(figures, visit.now_s)
    bids = bid_figures.by_recipient(figures, names)
    times = bid_figures.told_times(figures.minutes)
    look = visit.console.checks.last
    troubles = [each for each in look.troubles if not each.what.startswith(_TOLD_APART)]
    at_work = [job for job in queue.rows if job.state is JobState.RUNNING]
    waits = [job for job in queue.rows if job.state is JobState.QUEUED]
    return visit.live_page(
        "operations.html",
        "/ops",
        is_moving=True,
        held=[
            (row_of(job, {}, partners, is_partners=False), behind.get(job.id, 0)) for job in held
        ],
        queue=[row_of(job, {}, partners, is_partners=False) for job in queue.rows],
        is_more=queue.next_cursor is not None,
        opt_outs=opt_outs,
        opt_outs_waiting=waiting.requests,
        oldest_s=waiting.oldest_s,
        needs=len(held)
        + bool(waiting.requests)
        + sum(bool(each.why) for each in heard)
        + sum(is_unseen or bool(each.unready) for each, is_unseen in running)
        + len(troubles)
        + is_late
        + opt_outs.is_flood,
        running=running,
        troubles=[(_GRADE_TO_STATE[each.grade], each.what) for each in troubles],
        look=look,
        findings=[(_GRADE_TO_STATE[each.grade], each.what) for each in look.findings],
        at_work=len(at_work),
        waits=len(waits),
        oldest_wait_s=max((visit.now_s - job.created_at_s for job in waits), default=0.0),
        unscrubbed_s=unscrubbed_s if is_late else None,
        listeners=heard,
        bids=bids,
        groups=bid_figures.GROUPS,
        trusted=bid_figures.TRUSTED,
        known=names,
        recent_s=figures.recent_s,
        reasons=bid_figures.reasons(figures.recent),
        per_s=sum(each.per_s for each in bids),
        spark=bid_figures.spark(figures.minutes),
        times=times,
        times_chart=charts.answer_times(times, formats.hour),
    )


async def check(visit: Visit) -> web.Response:
    """Examine the deployment, as `rtb-segments doctor`."""
    look = await visit.console.checks.look()
    rows = [(_GRADE_TO_STATE[finding.grade], finding.what) for finding in look.findings]
    return visit.page(
        "checks.html", rows=rows, is_cut=look.is_cut, looks_for_s=int(checks.LOOKS_FOR_S)
    )
