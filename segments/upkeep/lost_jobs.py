"""
Repeats jobs that the ledger calls done and the store has lost.

`segments.store.job_marks` explains such losses. A loader asks a new server run for the marks of
done jobs. A job without its mark begins again, with the partner's later jobs: a partner's files
apply in order. By its kept plan, a repeated job changes only missing data.
"""

import logging

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import accounts, lost_jobs
from segments.ledger.clocks import CLOCKS_DIFFER_S
from segments.ledger.database.engine import reading
from segments.store import job_marks

_log = logging.getLogger(__name__)

KEPT_FOR_S = 3600.0
"""Age at which ended jobs' marks are dropped: above any lag of fsync or replica."""


async def begin_lost_again(ledger: AsyncEngine, redis: Redis, now_s: float) -> int:
    """
    Queue the jobs that the store has lost, and return the number of missing marks.

    A store without marks, new or emptied, starts to keep them; `rebuild` restores an emptied one's
    contents.
    """
    since_s = await job_marks.since(redis)
    if since_s is None:
        await job_marks.begin(redis, now_s)
        return 0
    if since_s > now_s + CLOCKS_DIFFER_S:
        # Or losses of jobs that end before then would go unnoticed.
        await job_marks.reach_back(redis, now_s)
        since_s = now_s
    async with reading(ledger) as conn:
        done = await lost_jobs.done_since(conn, since_s)
    lost = set(await job_marks.missing(redis, [job.id for job in done]))
    partner_to_first: dict[int, int] = {}
    for job in done:
        if job.id in lost:
            partner_to_first.setdefault(job.partner_id, job.id)  # ordered by job id
    for partner_id, first_id in partner_to_first.items():
        again = await _begin_again(ledger, partner_id, first_id)
        # Repeated: another loader may have claimed a later job before it saw this.
        await _begin_again(ledger, partner_id, first_id)
        _log.warning("the store has lost job %d: %d jobs are carried again", first_id, again)
    return len(lost)


async def _begin_again(ledger: AsyncEngine, partner_id: int, first_id: int) -> int:
    async with ledger.begin() as conn:
        # Blocks the partner's submissions and settlements: see `Realtime`.
        await accounts.lock(conn, partner_id)
        return await lost_jobs.begin_again(conn, partner_id, first_id)


async def forget_old(ledger: AsyncEngine, redis: Redis, now_s: float) -> None:
    """
    Drop the marks of jobs that ended long enough ago.

    A store with marks for less time drops none: emptied, it would seem to have lost all earlier
    jobs.
    """
    before_s = now_s - KEPT_FOR_S
    since_s = await job_marks.since(redis)
    if since_s is None or since_s >= before_s:
        return
    known = await job_marks.known(redis)
    async with reading(ledger) as conn:
        ended = await lost_jobs.ended_before(conn, known, before_s)
    await job_marks.forget(redis, ended, before_s)
