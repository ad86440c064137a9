"""
Keeps the store up to the ledger, and runs several partners' jobs concurrently.

    every second   catch up: see `segments.loader.catch_up`
    meanwhile      claim jobs, run them, save each state: see `segments.loader.carrying`
    once a day     keep house: see `segments.loader.housekeeping`
    now and then   look for floods of opt-outs: see `segments.loader.opt_out_flood`
    when due       scrub the files: likewise `housekeeping`

Bids see changed audiences within a second even while a file loads for an hour. No job begins before
the first catch-up: persons' opt-outs come before its writes.

While store or ledger is away, files wait. SIGTERM stops between two batches; SIGKILL may come at
any point.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from msgspec.structs import replace
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.blobs import Blobs
from segments.ingest import deletion
from segments.ingest.file_kinds import tidy
from segments.ingest.run import Keep, wait_as_ids
from segments.ingest.run import run as to_its_end
from segments.ingest.tools import Tools
from segments.ledger import job_leases, jobs
from segments.ledger.database.engine import reading
from segments.ledger.job_leases import LeaseLost
from segments.loader.backlog import Backlog
from segments.loader.carrying import Carrying
from segments.loader.catch_up import CatchUp
from segments.loader.fill import Fill
from segments.loader.housekeeping import keep_house, scrub_in_time
from segments.loader.long_waits import keep_waiting_as_ids
from segments.loader.metrics import Metrics
from segments.loader.opt_out_flood import FloodAlarm
from segments.loader.options import LoaderOptions
from segments.loader.quota_use import QuotaUse
from segments.loader.refill import refill_when_empty
from segments.model.job import UNFINISHED, Job, JobState, failed
from segments.model.stop_reason import Stopped, StopReason
from segments.projection.causes import away_by
from segments.projection.waiting_opt_outs import WaitingOptOuts
from segments.runtime.bug_place import bug_place
from segments.runtime.pauses import wait_or_stop
from segments.runtime.spans import NO_SPANS, Spans
from segments.store import keys
from segments.store.freshness import RAISED_EVERY_S

_log = logging.getLogger(__name__)

EVERY_S = RAISED_EVERY_S
_LOOK_EVERY_S = 0.25


def _not(_: Job) -> None:
    """Show nothing."""


class _Interrupted(Exception):
    """The loader is told to stop."""


class Loader:
    """One process's loader."""

    def __init__(
        self,
        options: LoaderOptions,
        ledger: AsyncEngine,
        redis: Redis,
        blobs: Blobs,
        *,
        now_s: Callable[[], float] = time.time,
        metrics: Metrics | None = None,
        spans: Spans = NO_SPANS,
    ) -> None:
        self._options = options
        self._spans = spans
        self._tools = Tools(
            ledger,
            redis,
            blobs,
            options.spool_dir,
            now_s,
            max_removed_share=options.max_removed_share,
            reserve_bytes=options.reserve_bytes,
        )
        self._metrics = metrics or Metrics()
        self._unreleased: dict[int, Job] = {}
        self._keeping_up = CatchUp(self._tools, options.expected_ids, self._metrics, EVERY_S)

    async def run(self, stopping: asyncio.Event) -> None:
        """Catch up and run jobs until stopped."""
        is_ready, options = asyncio.Event(), self._options
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keeping_up.run(is_ready, stopping))
            carrying = Carrying(
                self._tools,
                self._metrics,
                options.jobs_at_once,
                self.claim,
                self.run_one,
                every_s=EVERY_S,
            )
            group.create_task(carrying.run(is_ready, stopping))
            group.create_task(
                keep_house(self._tools, options.abandoned_after_s, is_ready, stopping)
            )
            alarm = FloodAlarm(
                self._tools.ledger,
                self._metrics.show_opt_outs,
                self._tools.now_s,
                limits=options.flood,
            )
            group.create_task(alarm.run(stopping))
            if options.rebuilds_when_empty:
                group.create_task(refill_when_empty(self._tools, options.expected_ids, stopping))
            group.create_task(Fill(self._tools, self._metrics).run(stopping))
            waiting = WaitingOptOuts(self._tools.ledger, self._metrics.registry, self._tools.now_s)
            group.create_task(waiting.run(stopping))
            quotas = QuotaUse(self._tools.ledger, self._metrics.registry, self._tools.now_s)
            group.create_task(quotas.run(stopping))
            backlog = Backlog(
                self._tools.ledger,
                self._metrics.registry,
                self._tools.now_s,
                options.scrub_within_s,
            )
            group.create_task(backlog.run(stopping))
            as_ids = partial(self.run_one, carry=wait_as_ids)
            group.create_task(keep_waiting_as_ids(self._tools, as_ids, stopping))
            group.create_task(
                scrub_in_time(self._tools, options.scrub_within_s, options.refused_file_s, stopping)
            )

    async def reasons(self) -> list[str]:
        """See `CatchUp.reasons`."""
        return self._keeping_up.reasons()

    async def catch_up(self) -> None:
        """See `CatchUp.catch_up`."""
        await self._keeping_up.catch_up()

    async def claim(self, partner_id: int | None = None) -> Job | None:
        """
        Claim the oldest available job, of a given partner or of any.

        Raises:
            segments.ledger.database.errors.LedgerAway: The ledger can't be reached.
        """
        for job in list(self._unreleased.values()):
            await self._release(job)
        async with self._tools.ledger.begin() as conn:
            return await job_leases.claim(conn, self._tools.now_s(), partner_id)

    async def carry(self, job: Job, stopping: asyncio.Event, show: Callable[[Job], None]) -> Job:
        """
        Bring a job to its end: run it after its partner's earlier jobs, or watch another loader.

        Returns:
            The current job; unfinished only if told to stop, or if the job or an earlier job of
            its partner is held.

        Raises:
            redis.exceptions.RedisError: The store is away; the job waits.
            segments.store.reader.StoreUnusable: Likewise.
            segments.ledger.database.errors.LedgerAway: The ledger is away; the job waits.
        """
        while not stopping.is_set():
            job = await self._as_it_is(job)
            show(job)
            if job.state not in UNFINISHED or job.state is JobState.HELD:
                return job
            claimed = await self.claim(job.partner_id)
            if claimed is None:
                if await self._is_behind_held(job):
                    return job
                await wait_or_stop(stopping, _LOOK_EVERY_S)
                continue
            with suppress(LeaseLost):
                await self.run_one(claimed, stopping, show if claimed.id == job.id else _not)
        return await self._as_it_is(job)

    async def run_one(
        self,
        job: Job,
        stopping: asyncio.Event,
        show: Callable[[Job], None] = _not,
        carry: Callable[[Job, Tools, Keep], Awaitable[Job]] = to_its_end,
    ) -> Job:
        """
        Run a claimed job to its end or, when told to stop, to its next checkpoint.

        Returns:
            The job as saved: done, failed, held, or queued if stopped.

        Raises:
            LeaseLost: Another loader has the job now.
            redis.exceptions.RedisError: The store is away; the job is queued again.
            segments.store.reader.StoreUnusable: Likewise.
            segments.ledger.database.errors.LedgerAway: The ledger is away; the job is
                queued again with the next claim.
            OSError, obstore.exceptions.BaseError: The machine or the bucket failed
                (`segments.projection.causes`); the job is queued again.
        """
        latest = job

        async def keep(job: Job) -> None:
            nonlocal latest
            await self._save(job)
            latest = job
            show(job)
            if stopping.is_set() and job.state is JobState.RUNNING:
                raise _Interrupted

        try:
            with self._spans.around("job") as note:
                note("job", {"job.number": job.id})
                carried = await carry(job, self._tools, keep)
                note("job", {"job.state": carried.state.value})
            return await self._tidied(carried)
        except _Interrupted:
            return await self._release(latest)
        except LeaseLost:
            raise
        except Exception as error:  # a poisoned file fails its own job only
            # Transient: the job waits. No file makes the store answer with an error; an unreadable
            # record is `CorruptRecord`.
            if away_by(error) is not None:
                await self._release(latest)
                raise
            broken = self._broken(latest, error)
            await self._save(broken)
            show(broken)
            return await self._tidied(broken)

    async def _save(self, job: Job) -> None:
        async with self._tools.ledger.begin() as conn:
            await job_leases.save(conn, job, self._tools.now_s())

    async def _as_it_is(self, job: Job) -> Job:
        async with reading(self._tools.ledger) as conn:
            return await jobs.job(conn, job.id) or job

    async def _is_behind_held(self, job: Job) -> bool:
        async with reading(self._tools.ledger) as conn:
            before = await jobs.unfinished_before(conn, job)
        return any(other.state is JobState.HELD for other in before)

    async def _release(self, job: Job) -> Job:
        released = replace(job, state=JobState.QUEUED)
        # Until saved: the job stays ours meanwhile.
        self._unreleased[job.id] = released
        with suppress(LeaseLost):
            await self._save(released)
        self._unreleased.pop(job.id, None)
        return released

    async def _tidied(self, job: Job) -> Job:
        tools = self._tools
        async with tools.ledger.begin() as conn:
            blobs = await tidy(
                conn,
                job,
                now_s=tools.now_s(),
                refused_file_s=self._options.refused_file_s,
            )
        if not blobs:
            return job
        await deletion.delete_files(tools.ledger, tools.blobs, blobs)
        # The next sweep removes the job's memberships of deleted audiences.
        await tools.redis.delete(keys.SWEPT)
        return await self._as_it_is(job)

    def _broken(self, job: Job, error: Exception) -> Job:
        where = bug_place(error)
        _log.error("job %d: %s", job.id, where)
        return failed(job, Stopped(StopReason.INTERNAL, where), self._tools.now_s())
