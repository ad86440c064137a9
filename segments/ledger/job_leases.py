"""
Which loader has a job: jobs are shared out, and kept by whoever has them.

A partner's files apply in the order in which they came, so of each partner only
the oldest unfinished job can be had; jobs of different partners run side by side.

Whoever claims a job holds its lease and extends it with every save. A lease
that ran out is anybody's, and so is one whose owner is seen to be dead: a
process of this machine that was killed need not be waited for. Loaders on
several machines go by their own clocks; that these differ by less than a lease
lasts is all that is asked of them.

Every change of a job names the lease's owner. One that lost its lease learns so
when it saves, and stops; what both wrote to the store meanwhile is the same.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, ScalarSelect, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.jobs import job_of
from segments.ledger.lease_owner import may_live, this_process
from segments.ledger.tables import jobs as _jobs
from segments.model.job import UNFINISHED, Job, JobState

LEASE_S = 60.0
"""How long a loader may be silent before others take its job."""


class LeaseLost(Exception):
    """Another loader has taken the job over; this one must let go of it."""


async def claim(conn: AsyncConnection, now_s: float, partner_id: int | None = None) -> Job | None:
    """
    Take the oldest job that can be had, and the lease of it.

    Args:
        conn: A transaction.
        now_s: When.
        partner_id: Only a job of this partner; `None` for any.
    """
    of_partner = [] if partner_id is None else [_jobs.c.partner_id == partner_id]
    oldest = (
        select(func.min(_jobs.c.id))
        .where(_jobs.c.state.in_(UNFINISHED), *of_partner)
        .group_by(_jobs.c.partner_id)
    )
    # A look without locks: most of these others are at work on, who save them.
    candidates = await conn.execute(
        select(_jobs)
        .where(_jobs.c.id.in_(oldest), _jobs.c.state.in_((JobState.QUEUED, JobState.RUNNING)))
        .order_by(_jobs.c.id)
    )
    for row in candidates:
        claimed = await _take(conn, row, now_s)
        if claimed is not None:
            return claimed
    return None


async def claim_waiting(conn: AsyncConnection, job_id: int, now_s: float) -> Job | None:
    """
    Take the lease of a job whose turn may not have come, for what does not touch the store.

    Args:
        conn: A transaction.
        job_id: The job.
        now_s: When.

    Returns:
        The job; `None` if somebody has it, or it is held or over.
    """
    asked = select(_jobs).where(
        _jobs.c.id == job_id, _jobs.c.state.in_((JobState.QUEUED, JobState.RUNNING))
    )
    row = (await conn.execute(asked)).one_or_none()
    return None if row is None else await _take(conn, row, now_s)


async def save(conn: AsyncConnection, job: Job, now_s: float) -> None:
    """
    Keep what a job has become, and extend its lease, or end it with the job.

    Raises:
        LeaseLost: The job is another's now; nothing was changed.
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


async def running(conn: AsyncConnection, now_s: float) -> Sequence[Job]:
    """Return the jobs that a loader works on, so far as can be known, the oldest first."""
    rows = await conn.execute(select(_jobs).where(_jobs.c.state == JobState.RUNNING))
    return sorted(
        (job_of(row) for row in rows if row.lease_until_s > now_s and may_live(row.lease_owner)),
        key=lambda job: job.id,
    )


async def _take(conn: AsyncConnection, row: Row[Any], now_s: float) -> Job | None:
    """Take the lease of a job as it was seen, unless another has it."""
    is_abandoned = row.state == JobState.RUNNING
    if is_abandoned and row.lease_until_s > now_s and may_live(row.lease_owner):
        return None
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


def _still_free(seen: Row[Any]) -> ScalarSelect[int]:
    """Select a job that is as it was seen; nothing if another changes it at this moment."""
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
