"""
Carries a job to its end; `segments.model.job` says what that is.

`run` hands each value that the job becomes to `keep`, and what `keep` raises
stops the job where it stands. So nothing here knows of leases, progress bars or
signals.

A checkpoint is believed as far as the store bears it out: one that fell back to
what it was a moment before gets the job anew. See `segments.store.job_marks`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from segments.ingest.brake import NEVER, Held
from segments.ingest.brake import check as check_removals
from segments.ingest.crm_audience.extra_steps import CrmSteps
from segments.ingest.crm_audience.typed_parser import TypedParser
from segments.ingest.external_audience.collect import Collecting
from segments.ingest.external_audience.delta import merge_marked
from segments.ingest.external_audience.replace import replace_members
from segments.ingest.in_thread import awaited
from segments.ingest.late_opt_outs import note_late
from segments.ingest.merge import Merged, merge
from segments.ingest.plan import changes, plan
from segments.ingest.read import AnyParser, Reading
from segments.ingest.spool import PARTS, Spool
from segments.ingest.tools import Tools
from segments.ingest.validate import order_as_kept
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
"""Saves what a job has become. What it raises stops the job."""


async def run(job: Job, tools: Tools, keep: Keep) -> Job:
    """
    Carry a job from where it stands to its end.

    Returns:
        The job, done, failed or held, as it was kept.

    Raises:
        redis.exceptions.RedisError: The store did not do it. The job stands at
            its last checkpoint.
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


class _Run:
    """A job in motion: `job` is what it has become."""

    def __init__(self, job: Job, tools: Tools, keep: Keep) -> None:
        self.job = job
        self._tools = tools
        self._keep = keep
        self._mark = Mark(tools.redis, job.id)

    async def to_the_end(self) -> None:
        if self.job.checkpoint.deaths >= MAX_DEATHS:
            raise Stopped(StopReason.INTERNAL, f"{MAX_DEATHS} loaders died of it")
        if self.job.scrubbed is not None and self.job.scrubbed.stop is not None:
            raise Stopped(self.job.scrubbed.stop, self.job.scrubbed.error)
        order = order_as_kept(self.job)
        crm = await CrmSteps.of(self.job, order, self._tools)
        await crm.check(self.job)
        order = crm.addressed(order)

        if order.run_id is not None:
            await self._collect(order.run_id)
        with Spool(self._tools.spool_dir) as spool, crm:
            parser = await self._read(order, spool, crm)
            await self._plan(order)
            await crm.count(self.job, parser, spool, self._become)
            await self._keep_ids_only(parser, spool, crm)
            await self._compare_marks()
            await self._brake(order, spool)
            await self._merge(order, spool)
            if order.replaces:
                await self._retain(spool)

        report = await self._settled()
        await publish_catalog(self._tools.ledger, self._tools.redis)
        await self._mark.done()
        # Behind the last write; whoever reads that it is done sees it in the next bid.
        await wait_out_leases(self._tools.redis)
        await self._become(state=JobState.DONE, report=report, finished_at_s=self._tools.now_s())

    async def fail(self, stopped: Stopped) -> None:
        self.job = failed(self.job, stopped, self._tools.now_s())
        await self._keep(self.job)

    async def hold(self, because: str) -> None:
        await self._become(
            state=JobState.HELD, report=replace(self.job.report, held_because=because)
        )

    async def _collect(self, run_id: str) -> None:
        collecting = Collecting(self._tools.ledger, self._tools.blobs, self.job.blob, run_id)
        collected = await awaited(collecting, collecting.run(), self._become)
        await self._become(report=replace(self.job.report, bad=collected.bad))

    async def _read(self, order: Order, spool: Spool, crm: CrmSteps) -> AnyParser:
        reading = Reading(
            self._tools.blobs,
            self.job.blob,
            order,
            spool,
            self.job.report.bad,
            is_ids=self.job.report.is_ids,
            typed_spools=crm.typed_spools,
        )

        def as_read() -> Report:
            report = self.job.report
            return report if report.is_ids else _with_reading(report, reading)

        async def show() -> None:
            await self._become(report=as_read())

        stop: Stopped | None = None
        try:
            await awaited(reading, asyncio.to_thread(reading.run), show)
        except Stopped as stopped:
            stop = stopped
        # While the last report was saved, the reading went on to its end.
        if as_read() != self.job.report:
            await show()
        if stop is not None and not self._is_scrubbed_bare(stop):
            raise stop
        return reading.parser

    async def _keep_ids_only(self, parser: AnyParser, spool: Spool, crm: CrmSteps) -> None:
        if isinstance(parser, TypedParser) and not self.job.report.is_ids:
            self.job = await crm.keep_ids_only(self.job, spool)
            await self._keep(self.job)
        # Whoever was stopped in between left it to whoever takes the job up again.
        if self.job.report.delivered_blob:
            await self._tools.blobs.delete(self.job.report.delivered_blob)
            await self._become(report=replace(self.job.report, delivered_blob=""))

    def _is_scrubbed_bare(self, stopped: Stopped) -> bool:
        """Tell whether it stops at a file that had valid records before it was scrubbed."""
        return self.job.scrubbed is not None and stopped.reason is StopReason.NO_VALID_RECORD

    async def _plan(self, order: Order) -> None:
        if self.job.report.segments:
            return
        meta = await own_meta(self._tools.ledger, self._tools.redis)
        async with self._tools.ledger.begin() as conn:
            segments = await plan(
                conn,
                order,
                owner_id=self.job.owner_id,
                partner_id=self.job.partner_id,
                at_s=self.job.created_at_s,
            )
        await self._become(
            report=replace(self.job.report, segments=segments, opt_outs_before=meta.opt_outs)
        )

    async def _compare_marks(self) -> None:
        """Begin anew where the store has less of the job than its checkpoint says."""
        parts = await self._mark.parts()
        if parts < self.job.checkpoint.parts and not self._mark.is_done:
            checkpoint = replace(self.job.checkpoint, next_part=0, next_retained=0)
            await self._become(checkpoint=checkpoint, report=self.job.report.unwritten())

    async def _brake(self, order: Order, spool: Spool) -> None:
        if self.job.checkpoint.next_part or self.job.checkpoint.is_released:
            return
        max_removed_share = order.max_removed_share
        if max_removed_share is None:
            max_removed_share = self._tools.max_removed_share
        if max_removed_share >= NEVER:
            return
        await check_removals(
            self._tools.redis,
            await own_meta(self._tools.ledger, self._tools.redis),
            spool,
            await self._changes(),
            max_removed_share=max_removed_share,
            seed=self.job.id,
            today=day_of(self._tools.now_s()),
            is_marked=order.run_id is not None,
            replaces=order.replaces,
        )

    async def _merge(self, order: Order, spool: Spool) -> None:
        to_apply = await self._changes()
        meta = await own_meta(self._tools.ledger, self._tools.redis)
        writer = Writer(self._tools.redis, meta)
        first_part = self.job.checkpoint.next_part
        pairs = self._tools.pairs_per_batch
        if order.run_id is None:
            batches = merge(spool, first_part, writer, to_apply, pairs)
        else:
            bits = meta.bucket_bits
            batches = merge_marked(
                spool, first_part, writer, to_apply, bucket_bits=bits, pairs_per_batch=pairs
            )
        report, began_s = self.job.report, self._tools.now_s()
        written_before = report.written
        async for merged in batches:
            report = _with_merged(report, merged)
            took_s = max(self._tools.now_s() - began_s, 1e-3)
            rows_per_s = (report.written - written_before) / took_s
            report = replace(report, rows_per_s=round(rows_per_s, 1))
            if merged.next_part > self.job.checkpoint.next_part:
                await self._mark.move(merged.next_part)
                await self._become(report=report, checkpoint=Checkpoint(merged.next_part))
            else:
                # In the midst of a part: only a sign of life, for whoever
                # resumes would write and count these rows again.
                await self._become()

    async def _retain(self, spool: Spool) -> None:
        meta = await own_meta(self._tools.ledger, self._tools.redis)
        writer = Writer(self._tools.redis, meta)
        # All parts are in, also where the last of them were empty.
        checkpoint = replace(self.job.checkpoint, next_part=PARTS, deaths=0)
        for change in await self._changes():
            first_part = checkpoint.next_retained
            async for done in replace_members(spool, first_part, writer, meta, change.audience_id):
                checkpoint = replace(checkpoint, next_retained=done.next_part)
                report = self.job.report
                report = replace(report, removed=report.removed + done.removed)
                await self._mark.move(checkpoint.parts)
                await self._become(report=report, checkpoint=checkpoint)

    async def _settled(self) -> Report:
        """Note which of the opt-outs that came meanwhile were too late for some ids."""
        to_apply = await self._changes()
        opt_outs_until = await note_late(self._tools.ledger, self._tools.redis, self.job, to_apply)
        return replace(self.job.report, opt_outs_until=opt_outs_until)

    async def _changes(self) -> list[Change]:
        async with snapshot_of(self._tools.ledger) as conn:
            tree = await accounts.tree(conn)
        return changes(self.job.report.segments, tree, self.job.owner_id)

    async def _become(self, **fields: Any) -> None:
        self.job = replace(self.job, **fields)
        await self._keep(self.job)


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
        header_line=parser.header_line,
        header=parser.header,
    )


def _with_merged(report: Report, merged: Merged) -> Report:
    tally = merged.tally._asdict()
    return replace(
        report,
        written=report.written + merged.rows,
        duplicates=report.duplicates + merged.duplicates,
        **{name: getattr(report, name) + count for name, count in tally.items()},
    )
