"""
Runs a job to its end; `segments.model.job` defines that.

A checkpoint counts only as far as the store confirms it: a store that has fallen back to an
earlier state gets the whole job again. See `segments.store.job_marks`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any

from msgspec.structs import replace

from segments.ingest.brake import NEVER, Held
from segments.ingest.brake import check as check_removals
from segments.ingest.file_kinds import steps_of
from segments.ingest.file_steps import FileSteps
from segments.ingest.in_thread import awaited
from segments.ingest.late_opt_outs import note_late
from segments.ingest.merge import Merged
from segments.ingest.parse import FileParser
from segments.ingest.plan import changes, plan
from segments.ingest.read import Reading
from segments.ingest.spool import Spool
from segments.ingest.tools import Tools
from segments.ledger import accounts
from segments.ledger.database.engine import reading as snapshot_of
from segments.model.job import MAX_DEATHS, Checkpoint, Job, JobState, Report, failed
from segments.model.order import Order
from segments.model.record import Change, CorruptRecord, day_of
from segments.model.stop_reason import Stopped, StopReason
from segments.projection.catalog import publish_catalog
from segments.projection.one_ledger import own_meta
from segments.store.cache_lease import wait_out_leases
from segments.store.job_marks import Mark
from segments.store.writer import Writer

Keep = Callable[[Job], Awaitable[None]]
"""Saves a job's new state; its exceptions stop the job."""


async def run(job: Job, tools: Tools, keep: Keep) -> Job:
    """
    Run a job from its checkpoint to its end: done, failed or held.

    Raises:
        redis.exceptions.RedisError: The store failed. The job stays at its last checkpoint.
        segments.store.reader.StoreUnusable: Likewise.
    """
    running = _Run(job, tools, keep)
    try:
        await running.to_the_end()
    except Stopped as stopped:
        await running.fail(stopped)
    except CorruptRecord as error:
        await running.fail(Stopped(StopReason.STORE_CORRUPT, str(error)))
    except Held as held:
        await running.hold(str(held))
    return running.job


async def wait_as_ids(job: Job, tools: Tools, keep: Keep) -> Job:
    """
    Reduce the file of a waiting job to ids, without the store; if that fails, so does the job.
    """
    running = _Run(job, tools, keep)
    try:
        await running.as_ids()
    except Stopped as stopped:
        await running.fail(stopped)
    return running.job


class _Run:
    """A running job, for the steps of its file: `segments.ingest.file_steps.Running`."""

    def __init__(self, job: Job, tools: Tools, keep: Keep) -> None:
        self.job = job
        self._tools = tools
        self._keep = keep
        self._mark = Mark(tools.redis, job.id)

    async def to_the_end(self) -> None:
        async with self._file_read() as (steps, parser, spool):
            await self._plan(steps.order)
            await steps.before_writing(self, parser, spool)
            await self._compare_marks()
            await self._brake(steps, spool)
            self._note_time("checked_at_s")
            await self._merge(steps, spool)
            await steps.after_writing(self, spool)
            self._note_time("written_at_s")

        report = await self._settled()
        await publish_catalog(self._tools.ledger, self._tools.redis)
        await self._mark.done()
        # After the last write: a reader of the DONE state sees its effect in the next bid.
        await wait_out_leases(self._tools.redis)
        await self.become(state=JobState.DONE, report=report, finished_at_s=self._tools.now_s())

    async def as_ids(self) -> None:
        async with self._file_read() as (steps, parser, spool):
            await steps.while_waiting(self, parser, spool)
        await self.become(state=JobState.QUEUED)

    @asynccontextmanager
    async def _file_read(self) -> AsyncIterator[tuple[FileSteps, FileParser, Spool]]:
        self._check()
        steps = await steps_of(self.job, self._tools)
        with ExitStack() as spools:
            await steps.prepare(self, spools)
            spool = spools.enter_context(
                Spool(self._tools.spool_dir, reserve_bytes=self._tools.reserve_bytes)
            )
            yield steps, await self._read(steps, spool), spool

    def _check(self) -> None:
        if self.job.checkpoint.deaths >= MAX_DEATHS:
            raise Stopped(StopReason.INTERNAL, f"{MAX_DEATHS} loaders died of it")
        if self.job.scrubbed is not None and self.job.scrubbed.stop is not None:
            raise Stopped(self.job.scrubbed.stop, self.job.scrubbed.error)

    async def fail(self, stopped: Stopped) -> None:
        self.job = failed(self.job, stopped, self._tools.now_s())
        await self._keep(self.job)

    async def hold(self, because: str) -> None:
        await self.become(
            state=JobState.HELD, report=replace(self.job.report, held_because=because)
        )

    async def become(self, **fields: Any) -> None:
        self.job = replace(self.job, **fields)
        await self._keep(self.job)

    def _note_time(self, stage: str) -> None:
        """Note the end of a stage, unless an earlier run came as far."""
        if getattr(self.job.report, stage) is None:
            report = replace(self.job.report, **{stage: self._tools.now_s()})
            self.job = replace(self.job, report=report)

    async def advance(self, report: Report, checkpoint: Checkpoint) -> None:
        await self._mark.move(checkpoint.parts)
        await self.become(report=report, checkpoint=checkpoint)

    async def changes(self) -> list[Change]:
        async with snapshot_of(self._tools.ledger) as conn:
            tree = await accounts.tree(conn)
        return changes(self.job.report.segments, tree, self.job.owner_id)

    async def _read(self, steps: FileSteps, spool: Spool) -> FileParser:
        reading = Reading(
            self._tools.blobs,
            self.job.blob,
            steps.order,
            spool,
            partial(steps.parser, self.job),
            is_ids=self.job.report.is_ids,
        )

        async def show() -> None:
            report = self.job.report
            await self.become(report=report if report.is_ids else _with_reading(report, reading))

        try:
            await awaited(reading, asyncio.to_thread(reading.run), show)
        except Stopped as stopped:
            if not self._is_scrubbed_bare(stopped):
                raise
        self._note_time("read_at_s")
        return reading.parser

    def _is_scrubbed_bare(self, stopped: Stopped) -> bool:
        """Tell whether the file had valid records only before it was scrubbed."""
        return self.job.scrubbed is not None and stopped.reason is StopReason.NO_VALID_RECORD

    async def _plan(self, order: Order) -> None:
        if self.job.report.segments:
            return
        meta = await own_meta(self._tools.ledger, self._tools.redis)
        async with self._tools.ledger.begin() as conn:
            segments = await plan(
                conn,
                order,
                job_id=self.job.id,
                owner_id=self.job.owner_id,
                partner_id=self.job.partner_id,
                at_s=self.job.created_at_s,
            )
        await self.become(
            report=replace(self.job.report, segments=segments, opt_outs_before=meta.opt_outs)
        )

    async def _compare_marks(self) -> None:
        """Begin again if the store has less of the job than its checkpoint says."""
        parts = await self._mark.parts()
        if parts < self.job.checkpoint.parts and not self._mark.is_done:
            checkpoint = replace(self.job.checkpoint, next_part=0, next_retained=0)
            await self.become(checkpoint=checkpoint, report=self.job.report.unwritten())

    async def _brake(self, steps: FileSteps, spool: Spool) -> None:
        if self.job.checkpoint.next_part or self.job.checkpoint.is_released:
            return
        max_removed_share = steps.order.max_removed_share
        if max_removed_share is None:
            max_removed_share = self._tools.max_removed_share
        if max_removed_share >= NEVER:
            return
        await check_removals(
            self._tools.redis,
            await own_meta(self._tools.ledger, self._tools.redis),
            spool,
            await self.changes(),
            steps.removing,
            max_removed_share=max_removed_share,
            seed=self.job.id,
            today=day_of(self._tools.now_s()),
        )

    async def _merge(self, steps: FileSteps, spool: Spool) -> None:
        to_apply = await self.changes()
        writer = Writer(self._tools.redis, await own_meta(self._tools.ledger, self._tools.redis))
        first_part, pairs = self.job.checkpoint.next_part, self._tools.pairs_per_batch
        batches = steps.merge(spool, first_part, writer, to_apply, pairs)
        report, began_s = self.job.report, self._tools.now_s()
        written_before = report.written
        async for merged in batches:
            report = _with_merged(report, merged)
            took_s = max(self._tools.now_s() - began_s, 1e-3)
            rows_per_s = (report.written - written_before) / took_s
            report = replace(report, rows_per_s=round(rows_per_s, 1))
            if merged.next_part > self.job.checkpoint.next_part:
                await self.advance(report, Checkpoint(merged.next_part))
            else:
                # Within a part, only renew the lease: a resumed job repeats and counts these
                # rows.
                await self.become()

    async def _settled(self) -> Report:
        to_apply = await self.changes()
        opt_outs_until = await note_late(self._tools.ledger, self._tools.redis, self.job, to_apply)
        return replace(self.job.report, opt_outs_until=opt_outs_until)


def _with_reading(report: Report, reading: Reading) -> Report:
    parser = reading.parser
    return replace(
        report,
        size_bytes=reading.progress.size_bytes,
        read_bytes=reading.progress.read_bytes,
        hash_type=parser.hash_type,
        rows=parser.rows,
        valid=parser.valid,
        bad=parser.bad,
        bad_lines=tuple(parser.samples),
        bad_by_reason=dict(parser.bad_by_reason),
        header_line=parser.header_line,
        header=parser.header,
    )


def _with_merged(report: Report, merged: Merged) -> Report:
    counted = replace(
        report,
        written=report.written + merged.rows,
        duplicates=report.duplicates + merged.duplicates,
    )
    return counted.with_tallies(merged.tallies)
