"""
Reduces the files of jobs that have waited for days to ids.

A job waits while the store is away, or after a held job of its partner; data sent by mistake must
not (`segments.ingest.ids_only`). The file is read and checked as usual; a job with another file
fails now.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from obstore.exceptions import BaseError
from redis.exceptions import RedisError

from segments.ingest.ids_only import AT_MOST_S, LOOK_EVERY_S
from segments.ingest.tools import Tools
from segments.ledger import job_leases
from segments.ledger.database.engine import LedgerAway
from segments.ledger.job_leases import LeaseLost
from segments.model.job import Job, JobState
from segments.runtime.pauses import wait_or_stop
from segments.store.reader import StoreUnusable
from segments.upkeep.originals import jobs_with_originals

_log = logging.getLogger(__name__)

Carry = Callable[[Job, asyncio.Event], Awaitable[Job]]
"""Runs a claimed job as far as `segments.ingest.run.wait_as_ids` does."""


async def keep_waiting_as_ids(tools: Tools, carry: Carry, stopping: asyncio.Event) -> None:
    """Look every hour until stopped."""
    while not stopping.is_set():
        try:
            await look_once(tools, carry, stopping)
        except (RedisError, StoreUnusable, LedgerAway, BaseError, OSError) as error:
            _log.warning("files that wait for days: broken off (%s)", type(error).__name__)
        await wait_or_stop(stopping, LOOK_EVERY_S)


async def look_once(tools: Tools, carry: Carry, stopping: asyncio.Event) -> int:
    """Treat every file that has waited long enough; return their number."""
    done = 0
    async for job in jobs_with_originals(tools.ledger):
        if stopping.is_set():
            break
        is_waiting = job.state in (JobState.QUEUED, JobState.RUNNING)
        if is_waiting and tools.now_s() >= job.created_at_s + AT_MOST_S:
            done += await _see_to(tools, job, carry, stopping)
    return done


async def _see_to(tools: Tools, job: Job, carry: Carry, stopping: asyncio.Event) -> bool:
    async with tools.ledger.begin() as conn:
        claimed = await job_leases.claim_waiting(conn, job.id, tools.now_s())
    if claimed is None:
        return False  # the job is running
    try:
        now = await carry(claimed, stopping)
    except LeaseLost:
        return False
    _log.info("job %d has waited for days: %s", job.id, now.error or "its file became ids")
    return True
