"""Queries of jobs that a store may have lost: see `segments.upkeep.lost_jobs`."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.jobs import job_of
from segments.ledger.tables import jobs as _jobs
from segments.model.job import UNFINISHED, Checkpoint, JobState

_NUMBERS_AT_ONCE = 1000


class Done(NamedTuple):
    """A done job."""

    id: int
    partner_id: int


async def done_since(conn: AsyncConnection, since_s: float) -> Sequence[Done]:
    """Return the jobs done after `since_s`, in order."""
    rows = await conn.execute(
        select(_jobs.c.id, _jobs.c.partner_id)
        .where(_jobs.c.state == JobState.DONE, _jobs.c.finished_at_s > since_s)
        .order_by(_jobs.c.id)
    )
    return [Done(*row) for row in rows]


async def ended_before(
    conn: AsyncConnection, job_ids: Collection[int], before_s: float
) -> Sequence[int]:
    """Return the jobs among these that ended before `before_s`."""
    ended: list[int] = []
    numbers = list(job_ids)
    for at in range(0, len(numbers), _NUMBERS_AT_ONCE):
        ended += await conn.scalars(
            select(_jobs.c.id).where(
                _jobs.c.id.in_(numbers[at : at + _NUMBERS_AT_ONCE]),
                _jobs.c.state.not_in(UNFINISHED),
                _jobs.c.finished_at_s < before_s,
            )
        )
    return ended


async def begin_again(conn: AsyncConnection, partner_id: int, first_id: int) -> int:
    """
    Requeue a partner's done and running jobs from a number on, and return how many.

    As if nothing were written; their plans stay, their loaders have lost the lease.
    """
    rows = await conn.execute(
        select(_jobs)
        .where(
            _jobs.c.partner_id == partner_id,
            _jobs.c.id >= first_id,
            _jobs.c.state.in_((JobState.DONE, JobState.RUNNING)),
        )
        .with_for_update()
    )
    found = [job_of(row) for row in rows]
    for each in found:
        # A done job has passed the brake.
        is_released = each.state is JobState.DONE or each.checkpoint.is_released
        checkpoint = Checkpoint(is_released=is_released)
        await conn.execute(
            update(_jobs)
            .where(_jobs.c.id == each.id)
            .values(
                state=JobState.QUEUED,
                lease_owner=None,
                lease_until_s=None,
                checkpoint=msgspec.to_builtins(checkpoint),
                report=msgspec.to_builtins(each.report.unwritten()),
                finished_at_s=None,
            )
        )
    return len(found)
