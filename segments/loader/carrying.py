"""
Runs several partners' jobs concurrently, in the order of `segments.loader.places`.

Jobs share the event loop and a connection to the store, and alternate after each round trip;
threads parse.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from obstore.exceptions import BaseError

from segments.ingest.tools import Tools
from segments.ledger import job_leases
from segments.ledger.database.engine import reading
from segments.ledger.database.errors import LEDGER_PASSES
from segments.ledger.external_audience import run_source
from segments.ledger.job_leases import LeaseLost
from segments.loader.catch_up import in_one_line
from segments.loader.metrics import Metrics
from segments.loader.places import SMALL_BYTES, Places
from segments.model.job import Job, JobState
from segments.projection.causes import away_by
from segments.runtime.pauses import wait_or_stop

_log = logging.getLogger(__name__)

Claim = Callable[[int], Awaitable[Job | None]]
Carry = Callable[[Job, asyncio.Event, Callable[[Job], None]], Awaitable[Job]]


class Carrying:
    """One loader's running jobs."""

    def __init__(
        self,
        tools: Tools,
        metrics: Metrics,
        jobs_at_once: int,
        claim: Claim,
        carry: Carry,
        *,
        every_s: float,
    ) -> None:
        """
        `jobs_at_once`: the number of places; `claim` claims a partner's oldest job; `carry` runs a
        claimed job to its end, as `Loader.run_one` does.
        """
        self._tools = tools
        self._metrics = metrics
        self._places = Places(jobs_at_once)
        self._claim = claim
        self._carry = carry
        self._every_s = every_s
        self._woken = asyncio.Event()

    async def run(self, is_ready: asyncio.Event, stopping: asyncio.Event) -> None:
        """
        Start jobs until told to stop; then wait for the running ones.

        `is_ready`: set while the store accepts writes; `stopping`: jobs stop at their next
        checkpoint.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._wake_at(stopping))
            while not stopping.is_set():
                await is_ready.wait()
                self._woken.clear()
                job = None if stopping.is_set() else await self._next()
                if job is None:
                    await wait_or_stop(self._woken, self._every_s)
                else:
                    self._places.begin(job)
                    group.create_task(self._at_work(job, stopping))

    async def _next(self) -> Job | None:
        if self._places.is_full:
            return None
        try:
            async with reading(self._tools.ledger) as conn:
                waiting = await job_leases.to_be_had(conn, self._tools.now_s())
            for job in self._places.in_turn(waiting, asyncio.get_running_loop().time()):
                if self._places.is_for_small and not await self._is_small(job):
                    continue
                claimed = await self._claim(job.partner_id)
                if claimed is not None:
                    return claimed
        except LEDGER_PASSES:  # `CatchUp` reports these
            pass
        return None

    async def _at_work(self, job: Job, stopping: asyncio.Event) -> None:
        _log.info("job %d: begun, %s", job.id, _progress(job))
        try:
            now = await self._carry(job, stopping, self._metrics.show)
        except LeaseLost as error:
            _log.warning("%s", error)
            self._places.end(job)
        except Exception as error:
            if away_by(error) is None:
                raise
            _log.warning("job %d: waits, %s", job.id, in_one_line(error))
            self._places.end_in_vain(job, asyncio.get_running_loop().time())
        else:
            _log.info("job %d: %s, %s", job.id, _said(now), _progress(now))
            self._places.end(job)
        finally:
            self._metrics.rests(job)
            self._woken.set()

    async def _is_small(self, job: Job) -> bool:
        if said_bytes := job.report.size_bytes or job.delivered_bytes:
            return said_bytes <= SMALL_BYTES
        try:
            if job.order.run_id is not None:
                source = await run_source.of_run(self._tools.ledger, job.order.run_id)
                return sum(file.size_bytes for file in source.files) <= SMALL_BYTES
            blob = await asyncio.to_thread(self._tools.blobs.get, job.blob)
        except (OSError, BaseError):
            return False  # the job itself will report the error
        return blob.size_bytes <= SMALL_BYTES

    async def _wake_at(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self._woken.set()


def _said(job: Job) -> str:
    if job.state is JobState.HELD:
        return f"held: {job.report.held_because}"
    if job.state is JobState.DONE and job.report.valid and not job.report.written:
        # A segment of a forbidden id has no audience.
        return "done, with nothing to write: each of its segments was rejected"
    return job.error or job.state


def _progress(job: Job) -> str:
    report = job.report
    return f"{report.written} of {report.valid} rows written, {report.bad} bad lines"
