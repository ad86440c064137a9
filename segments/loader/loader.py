"""
The loader: keeps the store up to the ledger, and carries one job after another.

    every second   catch up: see `segments.loader.catch_up`
    meanwhile      claim the oldest job, run it, save each state, and the next
    once a day     keep house: see `segments.loader.housekeeping`
    now and then   look whether opt-outs come in floods: see `segments.loader.opt_out_flood`
    when due       scrub the files: likewise

All at once, because a bid must see a changed audience within a second though a
file of an hour is being loaded. No job is begun before the first catching up:
what is written must not reach a person whose no the store has not heard.

When the store or the ledger is away, files wait and nothing fails. A job that fails for
reasons of its own says why, and the next one's turn comes. SIGTERM stops
between two batches; SIGKILL may come anywhere.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.blobs import Blobs
from segments.ingest import deletion
from segments.ingest.file_kinds import tidy
from segments.ingest.run import Keep, wait_as_ids
from segments.ingest.run import run as to_its_end
from segments.ingest.tools import Tools
from segments.ledger import job_leases, jobs
from segments.ledger.database.engine import reading
from segments.ledger.database.errors import LEDGER_PASSES
from segments.ledger.job_leases import LeaseLost
from segments.loader.catch_up import CatchUp, in_one_line
from segments.loader.housekeeping import keep_house, scrub_in_time
from segments.loader.long_waits import keep_waiting_as_ids
from segments.loader.metrics import Metrics
from segments.loader.opt_out_flood import FloodAlarm
from segments.loader.options import LoaderOptions
from segments.model.job import UNFINISHED, Job, JobState, failed
from segments.model.stop_reason import Stopped, StopReason
from segments.projection.waiting_opt_outs import WaitingOptOuts
from segments.runtime.bug_place import bug_place
from segments.runtime.pauses import Backoff, wait_or_stop
from segments.store import keys
from segments.store.freshness import RAISED_EVERY_S
from segments.store.reader import StoreUnusable

_log = logging.getLogger(__name__)

EVERY_S = RAISED_EVERY_S
_PAUSES = Backoff(EVERY_S, 30.0)
_LOOK_EVERY_S = 0.25

_AWAY = (RedisError, StoreUnusable, *LEDGER_PASSES)
"""
Not the job's fault, and will pass: the job waits. No file can make the store answer with an
error, whichever of our writes it refuses; a record that can't be read is `CorruptRecord`.
"""


def _not(_: Job) -> None:
    """Show nobody."""


class _Interrupted(Exception):
    """We were told to stop."""


class Loader:
    """One process's hands on the jobs."""

    def __init__(
        self,
        options: LoaderOptions,
        ledger: AsyncEngine,
        redis: Redis,
        blobs: Blobs,
        *,
        now_s: Callable[[], float] = time.time,
        metrics: Metrics | None = None,
    ) -> None:
        self._options = options
        self._tools = Tools(
            ledger,
            redis,
            blobs,
            options.spool_dir,
            now_s,
            max_removed_share=options.max_removed_share,
        )
        self._metrics = metrics or Metrics()
        self._unreleased: Job | None = None
        self._keeping_up = CatchUp(self._tools, options.expected_ids, self._metrics, EVERY_S)

    async def run(self, stopping: asyncio.Event) -> None:
        """Keep up and carry jobs until told to stop."""
        is_ready, options = asyncio.Event(), self._options
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keeping_up.run(is_ready, stopping))
            group.create_task(self._carry_jobs(is_ready, stopping))
            group.create_task(
                keep_house(self._tools, options.abandoned_after_s, is_ready, stopping)
            )
            alarm = FloodAlarm(
                self._tools.ledger,
                self._metrics.show_opt_outs,
                self._tools.now_s,
                factor=options.flood_factor,
                ids_per_minute=options.flood_ids_per_minute,
            )
            group.create_task(alarm.run(stopping))
            waiting = WaitingOptOuts(self._tools.ledger, self._metrics.registry, self._tools.now_s)
            group.create_task(waiting.run(stopping))
            as_ids = partial(self.run_one, carry=wait_as_ids)
            group.create_task(keep_waiting_as_ids(self._tools, as_ids, stopping))
            group.create_task(
                scrub_in_time(self._tools, options.scrub_within_s, options.refused_file_s, stopping)
            )

    async def reasons(self) -> list[str]:
        """Tell why no file can be loaded now, if none can."""
        return self._keeping_up.reasons()

    async def catch_up(self) -> None:
        """
        Bring the store up to the ledger once.

        Raises:
            segments.store.reader.StoreUnusable: The store is not ours to write.
            redis.exceptions.RedisError: It can't be reached.
        """
        await self._keeping_up.catch_up()

    async def claim(self, partner_id: int | None = None) -> Job | None:
        """
        Take the oldest job that can be had, of one partner or of any.

        Raises:
            segments.ledger.database.engine.LedgerAway: The ledger can't be reached.
        """
        if self._unreleased is not None:
            await self._release(self._unreleased)
        async with self._tools.ledger.begin() as conn:
            return await job_leases.claim(conn, self._tools.now_s(), partner_id)

    async def carry(self, job: Job, stopping: asyncio.Event, show: Callable[[Job], None]) -> Job:
        """
        See to it that a job ends: carry it, after those that its partner has
        before it, or watch another loader do so.

        Returns:
            The job as it is; unfinished only if told to stop, or if it, or one
            before it, is held.

        Raises:
            redis.exceptions.RedisError: The store is away; the job waits.
            segments.store.reader.StoreUnusable: Likewise.
            segments.ledger.database.engine.LedgerAway: Likewise, the ledger.
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
        Carry a claimed job to its end, or, when told to stop, to its next checkpoint.

        Args:
            job: As claimed.
            stopping: Set by whoever wants it to stop.
            show: Called with each state, for people to look at.
            carry: How far, if not to its end.

        Returns:
            The job as saved: done, failed, held, or queued if it was stopped.

        Raises:
            LeaseLost: Another loader has it now.
            redis.exceptions.RedisError: The store is away; the job is queued again.
            segments.store.reader.StoreUnusable: Likewise.
            segments.ledger.database.engine.LedgerAway: The ledger is away; the job is
                queued again with the next claim.
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
            return await self._tidied(await carry(job, self._tools, keep))
        except _Interrupted:
            return await self._release(latest)
        except LeaseLost:
            raise
        except _AWAY:
            await self._release(latest)
            raise
        except Exception as error:  # noqa: BLE001 - a poisoned file fails its job and nothing else
            broken = self._broken(latest, error)
            await self._save(broken)
            show(broken)
            return await self._tidied(broken)

    async def _carry_jobs(self, is_ready: asyncio.Event, stopping: asyncio.Event) -> None:
        failures = 0
        while not stopping.is_set():
            await is_ready.wait()
            try:
                job = None if stopping.is_set() else await self.claim()
            except LEDGER_PASSES:  # of which `CatchUp` tells
                job = None
            if job is None:
                await wait_or_stop(stopping, EVERY_S)
                continue
            _log.info("job %d: begun, %s", job.id, _progress(job))
            try:
                job = await self.run_one(job, stopping, self._metrics.show)
            except LeaseLost as error:
                _log.warning("%s", error)
            except _AWAY as error:
                _log.warning("job %d: waits, %s", job.id, in_one_line(error))
                # Each attempt reads the file anew, so not every second.
                failures += 1
                await wait_or_stop(stopping, _PAUSES.after(failures))
            else:
                failures = 0
                _log.info("job %d: %s, %s", job.id, _said(job), _progress(job))

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
        # Kept in mind until it is done: nobody else may have the job for as long
        # as this process lives and its lease lasts.
        self._unreleased = released
        with suppress(LeaseLost):
            await self._save(released)
        self._unreleased = None
        return released

    async def _tidied(self, job: Job) -> Job:
        """Take away what a job that has ended keeps and need not: see `deletion`."""
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
        # What it has written for an audience that is gone goes with the next sweep.
        await tools.redis.delete(keys.SWEPT)
        return await self._as_it_is(job)

    def _broken(self, job: Job, error: Exception) -> Job:
        where = bug_place(error)
        _log.error("job %d: %s", job.id, where)
        return failed(job, Stopped(StopReason.INTERNAL, where), self._tools.now_s())


def _said(job: Job) -> str:
    if job.state is JobState.HELD:
        return f"held: {job.report.held_because}"
    return job.error or job.state


def _progress(job: Job) -> str:
    report = job.report
    return f"{report.written} of {report.valid} rows written, {report.bad} bad lines"
