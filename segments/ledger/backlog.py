"""Queries of work to be done: jobs, and files with erased ids."""

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.privacy.scrubs import last_erasure
from segments.ledger.tables import data_subject_requests as _requests
from segments.ledger.tables import jobs as _jobs
from segments.model.job import NO_FILE, JobState
from segments.model.record import OptOutAction


class JobCounts(NamedTuple):
    """The jobs of a ledger, of all processes."""

    by_state: Mapping[JobState, int]
    oldest_queued_at_s: float | None
    """The arrival of the longest queued job; `None`: none waits."""


async def job_counts(conn: AsyncConnection) -> JobCounts:
    """Count the jobs."""
    rows = await conn.execute(select(_jobs.c.state, func.count()).group_by(_jobs.c.state))
    found = {JobState(state): count for state, count in rows}
    oldest = await conn.scalar(
        select(_jobs.c.created_at_s)
        .where(_jobs.c.state == JobState.QUEUED)
        .order_by(_jobs.c.id)
        .limit(1)
    )
    return JobCounts({state: found.get(state, 0) for state in JobState}, oldest)


class PartnerDeliveries(NamedTuple):
    """A partner's deliveries in numbers."""

    partner_id: int
    last_done_job: int | None
    last_done_at_s: float | None
    waiting: int  # queued or running
    held: int
    failed: int


async def by_partner(conn: AsyncConnection) -> list[PartnerDeliveries]:
    """Return the partners with deliveries, by number."""
    rows = await conn.execute(
        select(_jobs.c.partner_id, _jobs.c.state, func.count(), func.max(_jobs.c.id)).group_by(
            _jobs.c.partner_id, _jobs.c.state
        )
    )
    counts: dict[int, dict[str, tuple[int, int]]] = {}
    for partner_id, state, count, last in rows.all():
        counts.setdefault(partner_id, {})[state] = (count, last)
    found = []
    for partner_id, by_state in sorted(counts.items()):
        number = {state: by_state.get(state, (0, 0))[0] for state in JobState}
        last_done = by_state.get(JobState.DONE, (0, None))[1]
        finished_at = select(_jobs.c.finished_at_s).where(_jobs.c.id == last_done)
        found.append(
            PartnerDeliveries(
                partner_id,
                last_done,
                None if last_done is None else await conn.scalar(finished_at),
                number[JobState.QUEUED] + number[JobState.RUNNING],
                number[JobState.HELD],
                number[JobState.FAILED],
            )
        )
    return found


async def longest_unscrubbed_since_s(conn: AsyncConnection) -> float | None:
    """
    Return since when a kept file may hold an ERASURE's ids, from its arrival or the ERASURE on,
    whichever is later; `None`: no file may.
    """
    last_seq = await last_erasure(conn)
    rows = await conn.execute(
        select(_jobs.c.scrubbed_seq, func.min(_jobs.c.created_at_s))
        .where(_jobs.c.blob != NO_FILE, _jobs.c.scrubbed_seq < last_seq)
        .group_by(_jobs.c.scrubbed_seq)
    )
    since_s = []
    for scrubbed_seq, first_arrived_at_s in rows.all():
        erased_at_s = await conn.scalar(
            select(_requests.c.created_at_s)
            .where(_requests.c.action == OptOutAction.ERASURE.name, _requests.c.seq > scrubbed_seq)
            .order_by(_requests.c.seq)
            .limit(1)
        )
        since_s.append(max(float(first_arrived_at_s), float(erased_at_s or 0)))
    return min(since_s, default=None)
