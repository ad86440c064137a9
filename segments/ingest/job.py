r"""
One delivered file on its way into the store. Read this first.

    source -> validate -> parse  =spool=>  brake -> merge -> publish  ->  done
                                             \ ->  held, until it is released
                                                any of these -> failed

A job is a value, and `run` hands each value that it becomes to `keep`: how far
it read, what it is going to change, each checkpoint, the end. Whoever drives it
saves that; what `keep` raises stops the job where it stands. So nothing here
knows of leases, progress bars or signals.

Up to the spool nothing has been written. From there on every step may be
repeated: what a job changes is fixed in its report before the first write, the
expiry days included, and merging the same ids again changes nothing. A job that
was killed ends as if it had not been; only its counts may call "unchanged" what
the killed run had added after its last checkpoint.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.blobs import Blobs
from segments.ingest.brake import NEVER, Held
from segments.ingest.brake import check as check_removals
from segments.ingest.late import note_late
from segments.ingest.merge import PAIRS_PER_BATCH, Merged, merge
from segments.ingest.parse import BadLine
from segments.ingest.publish import Planned, changes, plan
from segments.ingest.read import Reading
from segments.ingest.spool import Spool
from segments.ingest.stop import Stopped, StopReason
from segments.ingest.validate import Order, order_of
from segments.ledger import accounts
from segments.ledger.engine import reading as snapshot_of
from segments.projection import publish_catalog
from segments.record import Change, CorruptRecord
from segments.store.reader import read_meta
from segments.store.writer import Writer

MAX_DEATHS = 5
"""So many loaders may die of a job before it gets anywhere; then it is the job."""

_SHOW_EVERY_S = 0.25


class State(StrEnum):
    """Where a job stands. The last two are ends; a failed one can be delivered again."""

    QUEUED = "queued"  # nobody works on it
    RUNNING = "running"  # a loader does, and holds its lease
    HELD = "held"  # waits for a person to release it
    DONE = "done"
    FAILED = "failed"


UNFINISHED = (State.QUEUED, State.RUNNING, State.HELD)


class Checkpoint(msgspec.Struct, frozen=True):
    """How far the store has it."""

    next_part: int = 0  # all parts of the spool below are in the store
    deaths: int = 0  # loaders that died since it last got further
    is_released: bool = False  # a person has said that it may remove what it does


class Report(msgspec.Struct, frozen=True):
    """What a job found and did: what every door's answer and every screen is made from."""

    size_bytes: int = 0  # as delivered
    read_bytes: int = 0
    hash_type: str | None = None
    rows: int = 0  # records: lines that are neither blank nor the header
    valid: int = 0
    bad: int = 0
    bad_lines: tuple[BadLine, ...] = ()  # a sample
    segments: tuple[Planned, ...] = ()
    written: int = 0  # of the valid rows
    rows_per_s: float = 0.0  # written, on the average since a loader last took it up
    duplicates: int = 0
    # In pairs of id and audience: segments.record.Tally.
    added: int = 0
    renewed: int = 0
    removed: int = 0
    unchanged: int = 0
    refused: int = 0
    # The ledger's opt-outs, by number, between which the job wrote: all up to the
    # first were in the store before, none behind the second was recorded.
    opt_outs_before: int | None = None
    opt_outs_until: int | None = None
    held_because: str = ""  # what a person must look at

    @property
    def remaining_s(self) -> float | None:
        """How long the rest will take at this rate; `None`: nothing is known yet."""
        return (self.valid - self.written) / self.rows_per_s if self.rows_per_s else None


class Job(msgspec.Struct, frozen=True):
    """One row of the ledger's jobs."""

    id: int
    transaction_id: str
    door: str
    partner_id: int
    owner_id: int
    fingerprint: str
    blob: str
    file_name: str
    metadata: dict[str, Any]
    state: State
    created_at_s: float
    checkpoint: Checkpoint = Checkpoint()
    report: Report = Report()
    stop: StopReason | None = None  # why it failed
    error: str | None = None  # the same, in words
    started_at_s: float | None = None
    finished_at_s: float | None = None


@dataclass(frozen=True)
class Tools:
    """What a job works with."""

    ledger: AsyncEngine
    redis: Redis
    blobs: Blobs
    spool_dir: Path
    now_s: Callable[[], float]
    pairs_per_batch: int = PAIRS_PER_BATCH
    max_removed_share: float = NEVER  # of an audience, by one file


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

    async def to_the_end(self) -> None:
        if self.job.checkpoint.deaths >= MAX_DEATHS:
            raise Stopped(StopReason.INTERNAL, f"{MAX_DEATHS} loaders died of it")
        order = order_of(self.job.metadata)

        with Spool(self._tools.spool_dir) as spool:
            await self._read(order, spool)
            await self._plan(order)
            await self._brake(order, spool)
            await self._merge(spool)

        report = await self._settled()
        await publish_catalog(self._tools.ledger, self._tools.redis)
        await self._become(state=State.DONE, report=report, finished_at_s=self._tools.now_s())

    async def fail(self, stopped: Stopped) -> None:
        self.job = failed(self.job, stopped, self._tools.now_s())
        await self._keep(self.job)

    async def hold(self, because: str) -> None:
        await self._become(state=State.HELD, report=replace(self.job.report, held_because=because))

    async def _read(self, order: Order, spool: Spool) -> None:
        reading = Reading(self._tools.blobs, self.job.blob, order, spool)
        thread = asyncio.create_task(asyncio.to_thread(reading.run))
        try:
            while not thread.done():
                await asyncio.wait({thread}, timeout=_SHOW_EVERY_S)
                await self._become(report=_with_reading(self.job.report, reading))
        finally:
            # The spool must not be closed under a thread that still writes to it.
            reading.is_abandoned = True
            await asyncio.wait({thread})
            fault = thread.exception()
        if fault is not None:
            raise fault

    async def _plan(self, order: Order) -> None:
        if self.job.report.segments:
            return
        meta = await read_meta(self._tools.redis)
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
            await read_meta(self._tools.redis),
            spool,
            await self._changes(),
            max_removed_share=max_removed_share,
            seed=self.job.id,
        )

    async def _merge(self, spool: Spool) -> None:
        to_apply = await self._changes()
        writer = Writer(self._tools.redis, await read_meta(self._tools.redis))
        first_part = self.job.checkpoint.next_part
        batches = merge(spool, first_part, writer, to_apply, self._tools.pairs_per_batch)
        report, began_s = self.job.report, self._tools.now_s()
        written_before = report.written
        async for merged in batches:
            report = _with_merged(report, merged)
            took_s = max(self._tools.now_s() - began_s, 1e-3)
            rows_per_s = (report.written - written_before) / took_s
            report = replace(report, rows_per_s=round(rows_per_s, 1))
            if merged.next_part > self.job.checkpoint.next_part:
                await self._become(report=report, checkpoint=Checkpoint(merged.next_part))
            else:
                # In the midst of a part: only a sign of life, for whoever
                # resumes would write and count these rows again.
                await self._become()

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
    )


def _with_merged(report: Report, merged: Merged) -> Report:
    tally = merged.tally._asdict()
    return replace(
        report,
        written=report.written + merged.rows,
        duplicates=report.duplicates + merged.duplicates,
        **{name: getattr(report, name) + count for name, count in tally.items()},
    )


def failed(job: Job, stopped: Stopped, at_s: float) -> Job:
    """Return the job as it ends; what it has written stays, and its report says how far it came."""
    return replace(
        job,
        state=State.FAILED,
        stop=stopped.reason,
        error=str(stopped),
        finished_at_s=at_s,
    )


def fingerprint(door: str, owner_id: int, metadata: dict[str, Any], sha256: str) -> str:
    """Name a delivery by what it says and holds: the same one again has the same name."""
    said = msgspec.json.encode([door, owner_id, metadata, sha256], order="deterministic")
    return hashlib.sha256(said).hexdigest()
