"""
Jobs that the ledger calls done and the store has lost: carried once more.

`segments.store.job_marks` says how a store comes to that. Whoever meets a server's
new run asks it for the marks of the jobs that are done. Where one is missing,
that job begins again, and with it every later one of the same partner, done or
at work: a partner's files apply in their order, and one that was carried in the
meantime must not end up below an older one.

Carried again, a job changes what is missing and nothing else: its plan was kept,
expiry days included, and its opt-outs stand in the records before it comes.
"""

import logging

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import accounts, lost_jobs
from segments.ledger.database.engine import reading
from segments.store import job_marks

_log = logging.getLogger(__name__)

KEPT_FOR_S = 3600.0
"""Marks are dropped so long after their jobs' end: more than any sync or replica is behind."""


async def begin_lost_again(ledger: AsyncEngine, redis: Redis, now_s: float) -> int:
    """
    Queue the jobs that the store has lost, and return how many were found missing.

    A store that keeps no marks yet, because it is new or was emptied, keeps them
    from now on; what an emptied one held is for `rebuild`.
    """
    since_s = await job_marks.since(redis)
    if since_s is None:
        await job_marks.begin(redis, now_s)
        return 0
    async with reading(ledger) as conn:
        done = await lost_jobs.done_since(conn, since_s)
    lost = set(await job_marks.missing(redis, [job.id for job in done]))
    partner_to_first: dict[int, int] = {}
    for job in done:
        if job.id in lost:
            partner_to_first.setdefault(job.partner_id, job.id)  # they come in their order
    for partner_id, first_id in partner_to_first.items():
        again = await _begin_again(ledger, partner_id, first_id)
        # Once more: another loader may have claimed a later job while it did not
        # see yet that an older one is unfinished.
        await _begin_again(ledger, partner_id, first_id)
        _log.warning("the store has lost job %d: %d jobs are carried again", first_id, again)
    return len(lost)


async def _begin_again(ledger: AsyncEngine, partner_id: int, first_id: int) -> int:
    async with ledger.begin() as conn:
        # Nobody submits or settles a job of theirs meanwhile: see `Realtime`.
        await accounts.lock(conn, partner_id)
        return await lost_jobs.begin_again(conn, partner_id, first_id)


async def forget_old(ledger: AsyncEngine, redis: Redis, now_s: float) -> None:
    """
    Drop the marks of jobs that ended long enough ago.

    A store that keeps marks for less time than that has none to drop: it may have
    been emptied, and would seem to have lost whatever was done before.
    """
    before_s = now_s - KEPT_FOR_S
    since_s = await job_marks.since(redis)
    if since_s is None or since_s >= before_s:
        return
    known = await job_marks.known(redis)
    async with reading(ledger) as conn:
        ended = await lost_jobs.ended_before(conn, known, before_s)
    await job_marks.forget(redis, ended, before_s)
