"""
Job leases: how loaders share out jobs.

A partner's files apply in order of arrival, so only its oldest unfinished job is available;
partners' jobs run side by side.

A claimed job's lease is extended with every save. It is free once it expires or its owner is seen
to be dead, as on this machine at once. Loaders' clocks must differ by no more than
`CLOCKS_DIFFER_S`: a lease that ends later dates from before the clock was set back, and counts as
expired.

Every change of a job names the lease's owner. A loader that lost its lease stops at its next save;
both loaders have written the same to the store.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, ScalarSelect, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.clocks import CLOCKS_DIFFER_S
from segments.ledger.jobs import job_of
from segments.ledger.lease_owner import may_live, this_process
from segments.ledger.tables import jobs as _jobs
from segments.model.job import UNFINISHED, Job, JobState

LEASE_S = 60.0
"""How long a silent loader keeps its job."""


class LeaseLost(Exception):
    """Another loader took the job."""


async def claim(conn: AsyncConnection, now_s: float, partner_id: int | None = None) -> Job | None:
    """Claim the oldest available job, of `partner_id` or any partner, and its lease."""
    for row in await _oldest(conn, partner_id):
        claimed = await _take(conn, row, now_s)
        if claimed is not None:
            return claimed
    return None


async def to_be_had(conn: AsyncConnection, now_s: float) -> list[Job]:
    """Return each partner's job that `claim` would take now."""
    return [job_of(row) for row in await _oldest(conn) if not _is_anothers(row, now_s)]


async def _oldest(conn: AsyncConnection, partner_id: int | None = None) -> Sequence[Row[Any]]:
    """
    Return each partner's, or one partner's, oldest unfinished job that is not held.

    Without locks: other loaders save most of these jobs.
    """
    of_partner = [] if partner_id is None else [_jobs.c.partner_id == partner_id]
    oldest = (
        select(func.min(_jobs.c.id))
        .where(_jobs.c.state.in_(UNFINISHED), *of_partner)
        .group_by(_jobs.c.partner_id)
    )
    candidates = await conn.execute(
        select(_jobs)
        .where(_jobs.c.id.in_(oldest), _jobs.c.state.in_((JobState.QUEUED, JobState.RUNNING)))
        .order_by(_jobs.c.id)
    )
    return candidates.all()


async def claim_waiting(conn: AsyncConnection, job_id: int, now_s: float) -> Job | None:
    """
    Take a job's lease, even out of turn, for work that does not touch the store.

    Returns:
        The job; `None` if another loader has it, or it is held or over.
    """
    asked = select(_jobs).where(
        _jobs.c.id == job_id, _jobs.c.state.in_((JobState.QUEUED, JobState.RUNNING))
    )
    row = (await conn.execute(asked)).one_or_none()
    return None if row is None else await _take(conn, row, now_s)


async def save(conn: AsyncConnection, job: Job, now_s: float) -> None:
    """
    Save a job's progress; extend its lease, or end it with the job.

    Raises:
        LeaseLost: Another loader has the job; nothing was changed.
    """
    is_running = job.state is JobState.RUNNING
    saved = await conn.execute(
        update(_jobs)
        .where(
            _jobs.c.id == job.id,
            _jobs.c.state == JobState.RUNNING,
            _jobs.c.lease_owner == this_process(),
        )
        .values(
            state=job.state,
            lease_owner=this_process() if is_running else None,
            lease_until_s=now_s + LEASE_S if is_running else None,
            checkpoint=msgspec.to_builtins(job.checkpoint),
            report=msgspec.to_builtins(job.report),
            blob=job.blob,
            error=job.error and job.error[:512],
            finished_at_s=job.finished_at_s,
        )
    )
    if saved.rowcount != 1:
        raise LeaseLost(f"job {job.id} was taken over")


async def drop_all(conn: AsyncConnection) -> None:
    """
    End every lease of a restored ledger, before any loader opens it.

    Its loaders work with another copy, or not at all. No job counts as abandoned by it.
    """
    await conn.execute(
        update(_jobs)
        .where(_jobs.c.state == JobState.RUNNING)
        .values(state=JobState.QUEUED, lease_owner=None, lease_until_s=None)
    )


async def running(conn: AsyncConnection, now_s: float) -> Sequence[Job]:
    """Return the jobs leased by a loader that may live, oldest first."""
    rows = await conn.execute(select(_jobs).where(_jobs.c.state == JobState.RUNNING))
    return sorted(
        (job_of(row) for row in rows if _is_anothers(row, now_s)),
        key=lambda job: job.id,
    )


async def _take(conn: AsyncConnection, row: Row[Any], now_s: float) -> Job | None:
    """Take the lease of a job, if still as `row` shows it."""
    if _is_anothers(row, now_s):
        return None
    is_abandoned = row.state == JobState.RUNNING
    checkpoint = job_of(row).checkpoint
    if is_abandoned:
        checkpoint = msgspec.structs.replace(checkpoint, deaths=checkpoint.deaths + 1)
    taken = await conn.execute(
        update(_jobs)
        .where(_jobs.c.id == _still_free(row))
        .values(
            state=JobState.RUNNING,
            lease_owner=this_process(),
            lease_until_s=now_s + LEASE_S,
            checkpoint=msgspec.to_builtins(checkpoint),
            started_at_s=func.coalesce(_jobs.c.started_at_s, now_s),
        )
        .returning(_jobs)
    )
    claimed = taken.one_or_none()
    return None if claimed is None else job_of(claimed)


def _is_anothers(row: Row[Any], now_s: float) -> bool:

    return bool(
        row.state == JobState.RUNNING
        and now_s < row.lease_until_s <= now_s + LEASE_S + CLOCKS_DIFFER_S
        and may_live(row.lease_owner)
    )


def _still_free(seen: Row[Any]) -> ScalarSelect[int]:
    """Select the job if its lease is unchanged; nothing while another transaction locks it."""
    return (
        select(_jobs.c.id)
        .where(
            _jobs.c.id == seen.id,
            _jobs.c.state == seen.state,
            _jobs.c.lease_owner.is_not_distinct_from(seen.lease_owner),
            _jobs.c.lease_until_s.is_not_distinct_from(seen.lease_until_s),
        )
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
