"""
Stores a few thousand ids before they are acknowledged.

They are an ordinary job with a blob of ids, so `rebuild` finds them and a crash loses nothing. But
the next bid must show them, and a partner's earlier job may take an hour. So:

    no older unfinished job     claimed, written, done
    an older unfinished job     written at once, and again by the loader in the order
                                of the jobs

Either way, the store ends as that order has it. While the store is away, the job waits.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.files.blobs import Blobs, delivery_name
from segments.ingest.late_opt_outs import note_late
from segments.ingest.merge import by_audience
from segments.ingest.parse import Ids
from segments.ingest.plan import changes, plan
from segments.ingest.uploaded_file import arrived
from segments.ledger import accounts, job_leases, jobs, quotas, uploads
from segments.ledger.crm_audience import audiences as crm_audiences
from segments.ledger.database.engine import reading
from segments.ledger.job_leases import LeaseLost
from segments.ledger.uploads import Upload
from segments.model.account import Account
from segments.model.audience import Audience
from segments.model.job import Checkpoint, Job, JobState, Report
from segments.model.order import SegmentAction
from segments.model.record import Change, CorruptRecord, Tally
from segments.projection.catalog import catch_up
from segments.projection.one_ledger import own_meta
from segments.store.cache_lease import wait_out_leases
from segments.store.job_marks import Mark
from segments.store.reader import StoreUnusable
from segments.store.writer import Writer

FILE_NAME = "realtime"


class Chunk(NamedTuple):
    """A request's content and its ids."""

    audience: Audience
    action: SegmentAction
    hash_type: str
    content: bytes
    ids: Ids


class Applied(NamedTuple):
    """A chunk's result, durable in the ledger."""

    request_id: str
    is_in_store: bool


@dataclass(frozen=True)
class Realtime:
    """Applies chunks."""

    expected_ids: int
    """The persons that a new store is laid out for."""

    ledger: AsyncEngine
    redis: Redis
    blobs: Blobs
    now_s: Callable[[], float]
    _partner_to_turn: dict[int, asyncio.Lock] = field(default_factory=dict)

    async def apply(self, account: Account, chunk: Chunk) -> Applied:
        """
        Keep a chunk durably, and write it to the store if available.

        `chunk` has at least one id, for an audience that is not deleted.

        Raises:
            segments.model.quota.OverQuota: The partner may deliver no more now.
        """
        # One at a time, or all but the first would find an older job.
        turn = self._partner_to_turn.setdefault(chunk.audience.partner_id, asyncio.Lock())
        async with turn:
            async with reading(self.ledger) as conn:
                await quotas.check_delivery(
                    conn, chunk.audience.partner_id, chunk.ids.nbytes, self.now_s()
                )
            blob = delivery_name(chunk.audience.partner_id)
            await self.blobs.put(blob, [chunk.ids.tobytes()])
            opt_outs_before = await self._opt_outs_in_store()
            # Uploads to CRM audiences are counted before the write, by the loader.
            is_counted = await self._is_counted(chunk.audience)
            async with self.ledger.begin() as conn:
                upload, job, to_apply = await self._submit(
                    conn,
                    account,
                    chunk,
                    blob=blob,
                    sha256=hashlib.sha256(chunk.content).hexdigest(),
                    opt_outs_before=opt_outs_before,
                    may_claim=not is_counted,
                )
            mark = Mark(self.redis, job.id)
            tallies = None if is_counted else await self._write(chunk, to_apply, mark)
            if job.state is JobState.RUNNING:
                await self._settle(job, chunk, to_apply, tallies, mark)
        return Applied(upload.request_id, tallies is not None)

    async def _submit(
        self,
        conn: AsyncConnection,
        account: Account,
        chunk: Chunk,
        *,
        blob: str,
        sha256: str,
        opt_outs_before: int,
        may_claim: bool,
    ) -> tuple[Upload, Job, list[Change]]:
        """Create the job; claim it if `may_claim` and no older job is unfinished."""
        now_s, audience = self.now_s(), chunk.audience
        # The lock keeps other replicas from adding an older job after our check.
        await accounts.lock(conn, audience.partner_id)
        upload = await uploads.add_upload(
            conn,
            account,
            audience,
            file_name=FILE_NAME,
            action=chunk.action,
            hash_type=chunk.hash_type,
            now_s=now_s,
            expires_at_s=now_s,
        )
        job = await arrived(
            conn,
            upload,
            audience,
            blob=blob,
            sha256=sha256,
            size_bytes=chunk.ids.nbytes,
            now_s=now_s,
        )
        planned = await plan(
            conn,
            job.order,
            job_id=job.id,
            owner_id=job.owner_id,
            partner_id=job.partner_id,
            at_s=job.created_at_s,
        )
        # Saved before the first write, even if the loader will repeat it.
        report = Report(
            segments=planned, opt_outs_before=opt_outs_before, is_ids=True, read_at_s=now_s
        )
        job = replace(job, report=_with_lines(report, chunk))
        await jobs.keep_plan(conn, job)
        if may_claim and not await jobs.unfinished_before(conn, job):
            claimed = await job_leases.claim(conn, now_s, job.partner_id)
            assert claimed is not None, "the oldest unfinished job can be claimed"
            assert claimed.id == job.id, "no other is older"
            job = claimed
        return upload, job, changes(planned, await accounts.tree(conn), job.owner_id)

    async def _write(
        self, chunk: Chunk, to_apply: list[Change], mark: Mark
    ) -> tuple[Tally, ...] | None:
        """Write to the store; `None` if it is away, or has an unreadable record."""
        try:
            # Opt-outs first: a store that was lost may lack some.
            meta = await catch_up(self.ledger, self.redis, self.expected_ids)
            await mark.parts()
            tallies = await Writer(self.redis, meta).merge_each(chunk.ids, to_apply)
            await wait_out_leases(self.redis)
        except (RedisError, StoreUnusable, OSError, CorruptRecord):
            return None
        return tallies

    async def _is_counted(self, audience: Audience) -> bool:
        async with reading(self.ledger) as conn:
            return bool(await crm_audiences.of_this_door(conn, [audience.id]))

    async def _opt_outs_in_store(self) -> int:
        try:
            return (await own_meta(self.ledger, self.redis)).opt_outs
        except (RedisError, StoreUnusable, OSError):
            return 0

    async def _settle(
        self,
        job: Job,
        chunk: Chunk,
        to_apply: list[Change],
        tallies: tuple[Tally, ...] | None,
        mark: Mark,
    ) -> None:
        """Finish a claimed job, or leave it to the loader, which can report a failure."""
        opt_outs_until = None
        if tallies is not None:
            with suppress(RedisError, StoreUnusable, OSError):
                noted_until = await note_late(self.ledger, self.redis, job, to_apply)
                await mark.done()
                opt_outs_until = noted_until
        if tallies is None or opt_outs_until is None:
            settled = replace(job, state=JobState.QUEUED)
        else:
            report = _with_tallies(job.report, chunk, by_audience(to_apply, tallies))
            finished_at_s = self.now_s()
            settled = replace(
                job,
                state=JobState.DONE,
                checkpoint=Checkpoint(),
                finished_at_s=finished_at_s,
                report=replace(
                    report,
                    checked_at_s=finished_at_s,
                    written_at_s=finished_at_s,
                    opt_outs_until=opt_outs_until,
                ),
            )
        async with self.ledger.begin() as conn:
            # If the store was slow, a loader may have the job by now, with the same result.
            with suppress(LeaseLost):
                await job_leases.save(conn, settled, self.now_s())


def _with_lines(report: Report, chunk: Chunk) -> Report:
    rows, size_bytes = len(chunk.ids), len(chunk.content)
    return replace(
        report,
        size_bytes=size_bytes,
        read_bytes=size_bytes,
        hash_type=chunk.hash_type,
        rows=rows,
        valid=rows,
    )


def _with_tallies(report: Report, chunk: Chunk, tallies: Mapping[int, Tally]) -> Report:
    rows = len(chunk.ids)
    persons = sum(next(iter(tallies.values()), Tally()))
    return replace(report, written=rows, duplicates=rows - persons).with_tallies(tallies)
