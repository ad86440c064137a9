"""
A few thousand ids that are in the store before they are acknowledged.

They are a job like any other, with a blob, so that `rebuild` finds them and a
crash loses nothing; it holds the ids and nothing else of what was sent. But jobs of a
partner apply in order, and a file of an hour may be before this one, while the next
bid is to show it. So:

    no older job unfinished     claimed, written, done
    one is                      written at once, and left to the loader, which
                                writes it again in its turn

Either way the store ends as the order of the jobs has it. If the store is away,
the job waits for it with the others.
"""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.files.blobs import Blobs, delivery_name
from segments.ingest.late_opt_outs import note_late
from segments.ingest.parse import Ids
from segments.ingest.plan import changes, plan
from segments.ingest.uploaded_file import arrived
from segments.ledger import accounts, job_leases, jobs, uploads
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
    """What was sent, and the ids that it is."""

    audience: Audience
    action: SegmentAction
    hash_type: str
    content: bytes
    ids: Ids


class Applied(NamedTuple):
    """What became of a chunk; in the ledger it is for good."""

    request_id: str
    is_in_store: bool


@dataclass(frozen=True)
class Realtime:
    """Applies chunks."""

    expected_ids: int
    """How many persons the store is laid out for, if it is new."""

    ledger: AsyncEngine
    redis: Redis
    blobs: Blobs
    now_s: Callable[[], float]
    _partner_to_turn: dict[int, asyncio.Lock] = field(default_factory=dict)

    async def apply(self, account: Account, chunk: Chunk) -> Applied:
        """
        Keep a chunk for good, and write it to the store if that can be written.

        Args:
            account: Who sent it.
            chunk: At least one id, of an audience that is not deleted.
        """
        # One after another, or each but the first would find an older job.
        turn = self._partner_to_turn.setdefault(chunk.audience.partner_id, asyncio.Lock())
        async with turn:
            blob = delivery_name(chunk.audience.partner_id)
            await self.blobs.put(blob, [chunk.ids.tobytes()])
            opt_outs_before = await self._opt_outs_in_store()
            # What a CRM audience is brought is counted first, which is the loader's to do.
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
            tally = None if is_counted else await self._write(chunk, to_apply, mark)
            if job.state is JobState.RUNNING:
                await self._settle(job, chunk, to_apply, tally, mark)
        return Applied(upload.request_id, tally is not None)

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
        """Make the job; it is running, and ours, if no older one is unfinished."""
        now_s, audience = self.now_s(), chunk.audience
        # Replicas of us take turns, so that no older job turns up after we looked.
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
        job = await arrived(conn, upload, audience, blob=blob, sha256=sha256, now_s=now_s)
        planned = await plan(
            conn,
            job.order,
            owner_id=job.owner_id,
            partner_id=job.partner_id,
            at_s=job.created_at_s,
        )
        # Kept before the first write, also where the loader will repeat it.
        report = Report(segments=planned, opt_outs_before=opt_outs_before, is_ids=True)
        job = replace(job, report=_with_lines(report, chunk))
        await jobs.keep_plan(conn, job)
        if may_claim and not await jobs.unfinished_before(conn, job):
            claimed = await job_leases.claim(conn, now_s, job.partner_id)
            assert claimed is not None, "the oldest unfinished job can be claimed"
            assert claimed.id == job.id, "no other is older"
            job = claimed
        return upload, job, changes(planned, await accounts.tree(conn), job.owner_id)

    async def _write(self, chunk: Chunk, to_apply: list[Change], mark: Mark) -> Tally | None:
        """Write to the store; `None` if it is away, or holds what can't be read."""
        try:
            # Opt-outs first: nobody is added who said no to a store that has been lost.
            meta = await catch_up(self.ledger, self.redis, self.expected_ids)
            await mark.parts()
            tally = await Writer(self.redis, meta).merge(chunk.ids, to_apply)
            await wait_out_leases(self.redis)
        except (RedisError, StoreUnusable, OSError, CorruptRecord):
            return None
        return tally

    async def _is_counted(self, audience: Audience) -> bool:
        async with reading(self.ledger) as conn:
            return bool(await crm_audiences.of_this_door(conn, [audience.id]))

    async def _opt_outs_in_store(self) -> int:
        """Return the last opt-out that the store says it has; 0 if it can't say."""
        try:
            return (await own_meta(self.ledger, self.redis)).opt_outs
        except (RedisError, StoreUnusable, OSError):
            return 0

    async def _settle(
        self, job: Job, chunk: Chunk, to_apply: list[Change], tally: Tally | None, mark: Mark
    ) -> None:
        """Finish a job that we claimed; or leave it to the loader, which can say why not."""
        opt_outs_until = None
        if tally is not None:
            with suppress(RedisError, StoreUnusable, OSError):
                noted_until = await note_late(self.ledger, self.redis, job, to_apply)
                await mark.done()
                opt_outs_until = noted_until
        if tally is None or opt_outs_until is None:
            settled = replace(job, state=JobState.QUEUED)
        else:
            settled = replace(
                job,
                state=JobState.DONE,
                checkpoint=Checkpoint(),
                finished_at_s=self.now_s(),
                report=replace(
                    _with_tally(job.report, chunk, tally), opt_outs_until=opt_outs_until
                ),
            )
        async with self.ledger.begin() as conn:
            # The store was slow and a loader has the job now; it comes to the same.
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


def _with_tally(report: Report, chunk: Chunk, tally: Tally) -> Report:
    rows = len(chunk.ids)
    return replace(report, written=rows, duplicates=rows - sum(tally), **tally._asdict())
