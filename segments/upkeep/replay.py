"""
Replays a job; `segments.upkeep.rebuild` explains why.

An id opted out before the job reached it gets no additions; removals always happen. The store need
not hold any opt-out yet.
"""

import asyncio
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from segments.ingest.external_audience.delta import coming_and_leaving, removals_of
from segments.ingest.external_audience.replace import replace_members
from segments.ingest.file_kinds import parser_of_kept
from segments.ingest.in_thread import awaited
from segments.ingest.parse import Ids
from segments.ingest.plan import changes
from segments.ingest.read import Reading
from segments.ingest.spool import PARTS, Spool
from segments.ingest.store_names import NAME_BYTES, Names, names_of
from segments.ingest.tools import FileTools, Tools
from segments.ingest.validate import order_as_kept
from segments.ledger.privacy.late_opt_outs import Said
from segments.model.account import AccountTree
from segments.model.identity import ID_BYTES, Id
from segments.model.job import Job, JobState
from segments.model.record import EVERYONE, Change
from segments.model.stop_reason import Stopped, StopReason
from segments.store.reader import Meta
from segments.store.writer import Writer


class OptedOut:
    """All opted-out ids, with the order of opt-outs and jobs."""

    def __init__(self, bucket_bits: int) -> None:
        self._bucket_bits = bucket_bits
        self._seqs = np.empty(0, np.int64)
        self._account_ids = np.empty(0, np.int64)
        self._names = self._names_of(np.empty((0, ID_BYTES), np.uint8))

    def add(self, page: Sequence[Said]) -> None:
        """Add a page, in the order of opt-out numbers."""
        ids = np.frombuffer(b"".join(said.id for said in page), np.uint8).reshape(-1, ID_BYTES)
        self._seqs = np.concatenate((self._seqs, [said.seq for said in page]))
        self._account_ids = np.concatenate((self._account_ids, [said.account_id for said in page]))
        self._names = np.concatenate((self._names, self._names_of(ids)))

    def before(
        self, job: Job, forbidding: Collection[int], noted: Collection[tuple[int, Id]]
    ) -> Names:
        """
        Return the names of ids kept from a planned job's additions, sorted.

        `noted` are opt-outs that were too late for it, each with an id.
        """
        reaching = np.isin(self._account_ids, [EVERYONE, *forbidding])
        before = job.report.opt_outs_before or 0
        until = job.report.opt_outs_until
        if until is not None:
            reaching &= self._seqs <= until
        is_before = reaching & (self._seqs <= before)
        between = reaching & (self._seqs > before)
        late = {(seq, self._name_of(id_)) for seq, id_ in noted}
        in_time = [
            name
            for seq, name in zip(
                self._seqs[between].tolist(), self._names[between].tolist(), strict=True
            )
            if (seq, name) not in late
        ]
        return np.unique(
            np.concatenate((self._names[is_before], np.array(in_time, f"S{NAME_BYTES}")))
        )

    def among(self, ids: Ids, names: Names) -> npt.NDArray[np.bool_]:
        """Tell which ids are among the names."""
        return np.isin(self._names_of(ids), names)

    def _name_of(self, id_: Id) -> bytes:
        name: bytes = self._names_of(np.frombuffer(id_, np.uint8).reshape(1, -1)).tolist()[0]
        return name

    def _names_of(self, ids: Ids) -> Names:
        return names_of(ids, self._bucket_bits)


class Replay:
    """Replays jobs, one after another."""

    def __init__(
        self, tools: Tools, meta: Meta, writer: Writer, tree: AccountTree, opted_out: OptedOut
    ) -> None:
        """Take the jobs' tools, and the meta and writer of the store that is rebuilt."""
        self._tools = tools
        self._meta = meta
        self._writer = writer
        self._tree = tree
        self._opted_out = opted_out

    async def run(self, job: Job, noted: Collection[tuple[int, Id]]) -> int:
        """
        Replay a job, whatever its state; return the number of rows written.

        Raises:
            Stopped: FILE_NOT_FOUND, or another reason why the file can't be read.
            FileNotFoundError: The file was deleted while it was read.
        """
        to_apply = changes(job.report.segments, self._tree, job.owner_id)
        is_done = job.state is JobState.DONE
        end_part = PARTS if is_done else job.checkpoint.next_part
        if not to_apply or not end_part:
            return 0
        order = order_as_kept(job)
        removals = [change for change in to_apply if not change.is_add]
        refused = self._opted_out.before(job, self._tree.forbidding(job.owner_id), noted)
        rows = 0
        with Spool(self._tools.spool_dir, reserve_bytes=self._tools.reserve_bytes) as spool:
            await read_again(job, self._tools, spool)
            max_rows = max(1, self._tools.pairs_per_batch // len(to_apply))
            for batch in spool.batches(0, max_rows, end_part):
                ids, rows = batch.ids, rows + len(batch.ids)
                if order.is_of_marked_ids:
                    ids, leaving = coming_and_leaving(ids, self._meta.bucket_bits)
                    await self._writer.merge(leaving, removals_of(to_apply))
                is_refused = self._opted_out.among(ids, refused)
                await self._writer.merge(ids[~is_refused], to_apply)
                await self._writer.merge(ids[is_refused], removals)
            if order.replaces:
                await self._retain(
                    spool, PARTS if is_done else job.checkpoint.next_retained, to_apply
                )
        return rows

    async def _retain(self, spool: Spool, end_part: int, to_apply: Sequence[Change]) -> None:
        for change in to_apply:
            async for _ in replace_members(
                spool, 0, self._writer, self._meta, change.audience_id, end_part=end_part
            ):
                pass


async def read_again(job: Job, tools: FileTools, spool: Spool) -> None:
    """
    Read the file of a job again, into a spool.

    Raises:
        Stopped: FILE_NOT_FOUND, or another reason why the file can't be read.
        FileNotFoundError: The file was deleted while it was read.
    """
    order = order_as_kept(job)
    if job.scrubbed is None:
        # The first reading compared digest and number of records.
        order = replace(order, digest=None, records=None, hash_type=job.report.hash_type)
    reading = Reading(
        tools.blobs,
        job.blob,
        order,
        spool,
        lambda _: parser_of_kept(order),
        is_ids=job.report.is_ids,
    )
    try:
        await awaited(reading, asyncio.to_thread(reading.run))
    except Stopped as stopped:
        if stopped.reason is not StopReason.NO_VALID_RECORD:
            raise
