"""
The extra steps of a file for an audience of the CRM door.

    read  ->  plan  ->  count  ->  keep ids only  ->  brake  ->  merge
                        |          |
                        |          the delivered file goes
                        before the first membership is written: "known before this upload"

A file of typed columns is reduced to ids (`segments.ingest.ids_only`) before the first write to the
store, so its other content never waits for the job's end. If a job fails before that, its loader
deletes the file at the end (`segments.ingest.deletion.tidy`), or later if corrected metadata may
find the file.

A file that waits for days is reduced meanwhile. Its typed columns are counted first, because ids do
not tell their column.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from itertools import repeat
from typing import Any, NamedTuple, Self

import numpy as np
from msgspec.structs import replace
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ingest.crm_audience.columns import IN_BIDS, DataType, columns_of
from segments.ingest.crm_audience.typed_parser import TypedParser
from segments.ingest.file_steps import Running
from segments.ingest.hash_steps import HashSteps
from segments.ingest.ids_only import become_ids
from segments.ingest.parse import FileParser, Ids
from segments.ingest.seen_in_bids import Mask, seen_in_bids
from segments.ingest.spool import Spool
from segments.ingest.tools import Tools
from segments.ledger import accounts
from segments.ledger.crm_audience import audiences as crm_audiences
from segments.ledger.crm_audience import uploads as crm_uploads
from segments.ledger.database.engine import reading
from segments.model.audience import AudienceState
from segments.model.job import Job
from segments.model.order import Order
from segments.model.record import day_of
from segments.model.stop_reason import Stopped, StopReason
from segments.projection.one_ledger import own_meta
from segments.store.reader import StoreUnusable
from segments.store.writer import Matched, Writer

_TYPED_BLOCK_ROWS = 64 << 10
_ROWS_AT_ONCE = 256 << 10


class _Set(NamedTuple):
    kind: DataType
    total: int
    spool: Spool | None  # `None`: this type has no ids
    unique: int = 0  # of values without ids

    def batches(self) -> Iterator[Ids]:
        """Yield the ids, the same for each call."""
        if self.spool is not None:
            for batch in self.spool.batches(0, _ROWS_AT_ONCE):
                yield batch.ids


class CrmSteps(HashSteps):
    """See `segments.ingest.file_steps.FileSteps`; for jobs that change audiences of this door."""

    def __init__(
        self, order: Order, tools: Tools, audience_to_segment_id: Mapping[int, str]
    ) -> None:
        super().__init__(_addressed(order, audience_to_segment_id), tools)
        self._audience_ids = audience_to_segment_id.keys()
        self._kind_to_spool: dict[DataType, Spool] = {}

    @classmethod
    async def of(cls, job: Job, order: Order, tools: Tools) -> Self | None:
        """Return the steps of a job's file, or `None` if it has no audience of this door."""
        async with reading(tools.ledger) as conn:
            named = await crm_audiences.named(conn, job.owner_id, order)
        return cls(order, tools, named) if named else None

    async def prepare(self, running: Running, spools: ExitStack) -> None:
        """
        Check that no audience was deleted; an existing plan names only the remaining audiences.

        Raises:
            Stopped: AUDIENCE_DELETED.
        """
        if not running.job.report.segments:
            async with reading(self._tools.ledger) as conn:
                states = await crm_audiences.states(conn, self._audience_ids)
            if AudienceState.DELETED in states.values():
                raise Stopped(StopReason.AUDIENCE_DELETED)
        for kind in IN_BIDS:
            spool = Spool(
                self._tools.spool_dir,
                _TYPED_BLOCK_ROWS,
                reserve_bytes=self._tools.reserve_bytes,
            )
            self._kind_to_spool[kind] = spools.enter_context(spool)

    def parser(self, job: Job, first_block: bytes) -> FileParser:
        """Return a parser of the columns in the file's header, or else of hashes."""
        columns = columns_of(first_block)
        if columns is None:
            return super().parser(job, first_block)
        return TypedParser(columns, self._kind_to_spool)

    async def before_writing(self, running: Running, parser: FileParser, spool: Spool) -> None:
        """Count the file's values; then reduce typed columns to ids."""
        await self._count(running, parser, spool, await self._writer())
        if isinstance(parser, TypedParser) or running.job.report.delivered_blob:
            await become_ids(running, self._tools.blobs, spool)
        await super().before_writing(running, parser, spool)

    async def while_waiting(self, running: Running, parser: FileParser, spool: Spool) -> None:
        """Count typed columns now."""
        if isinstance(parser, TypedParser):
            try:
                await self._count(running, parser, spool, await self._writer())
            except (RedisError, StoreUnusable):
                await self._count(running, parser, spool, None)
        await super().while_waiting(running, parser, spool)

    @classmethod
    async def audience_states(cls, conn: AsyncConnection, job: Job) -> dict[int, AudienceState]:
        """Return the states of this door's audiences in the job."""
        if job.order.is_of_marked_ids:
            return {}
        named = await crm_audiences.named(conn, job.owner_id, job.order)
        return await crm_audiences.states(conn, named) if named else {}

    async def _writer(self) -> Writer:
        return Writer(self._tools.redis, await own_meta(self._tools.ledger, self._tools.redis))

    async def _count(
        self, running: Running, parser: FileParser, spool: Spool, writer: Writer | None
    ) -> None:
        """
        Count a file's values, once, against a store without its ids.

        An id matches if the store knows it, or if the operator has enabled
        `segments.store.seen_filter` and bids contained it lately; without the store (`writer`)
        none.
        """
        job, still_here = running.job, running.become
        audience_to_action = {
            segment.audience_id: segment.action
            for segment in job.report.segments or self.order.segments
            if segment.audience_id is not None and segment.audience_id in self._audience_ids
        }
        if not audience_to_action:
            return
        async with reading(self._tools.ledger) as conn:
            if await crm_uploads.is_counted(conn, job):
                return
            tree = await accounts.tree(conn)
        forbidding = tree.forbidding(job.owner_id)
        data_set: dict[str, Any] = {}
        # The rows of a file of ids were counted when the original was read.
        rows = job.report.rows
        sets = list(self._sets(parser, spool, rows))
        all_seen = None
        if writer is not None:
            all_seen = await seen_in_bids(
                self._tools.redis,
                day_of(self._tools.now_s()),
                [each.batches for each in sets],
                still_here,
            )
        for each, seen in zip(sets, all_seen or repeat(None, len(sets)), strict=True):
            matched = Matched(each.unique)
            for number, ids in enumerate(each.batches()):
                if writer is None:
                    more = Matched(len(np.unique(ids, axis=0)))
                elif seen is None:
                    more = await writer.match(ids, forbidding)
                else:
                    more = await _match_or_seen(writer, ids, forbidding, seen.mask(number, ids))
                matched = Matched(*map(sum, zip(matched, more, strict=True)))
                await still_here()
            data_set[each.kind.value] = {
                "TOTAL": each.total,
                "UNIQUE": matched.unique,
                "MATCH": matched.known,
                "UMATCH": matched.usable,
                "NOMATCH": matched.unique - matched.known,
            }
        async with self._tools.ledger.begin() as conn:
            await crm_uploads.note(
                conn, job, audience_to_action, total_rows=rows, data_set=data_set
            )

    def _sets(self, parser: FileParser, spool: Spool, rows: int) -> Iterator[_Set]:
        if not isinstance(parser, TypedParser):
            yield _Set(DataType.EMAIL, rows, spool)
            return
        for kind, total in parser.type_to_total.items():
            if kind in IN_BIDS:
                yield _Set(kind, total, self._kind_to_spool[kind])
            else:
                # The estimate may exceed the total.
                unique = min(parser.type_to_distinct[kind].count, total)
                yield _Set(kind, total, None, unique)


def _addressed(order: Order, audience_to_segment_id: Mapping[int, str]) -> Order:
    """Add this door's audience numbers to an order; the sender does not name audiences."""
    segment_to_id = {segment: number for number, segment in audience_to_segment_id.items()}
    return replace(
        order,
        segments=tuple(
            segment
            if segment.audience_id is not None
            else replace(segment, audience_id=segment_to_id.get(segment.segment_id))
            for segment in order.segments
        ),
    )


async def _match_or_seen(
    writer: Writer, ids: Ids, forbidding: Collection[int], is_seen: Mask
) -> Matched:
    """Count as `Writer.match`; an id seen in bids is known, and without a record has no opt-out."""
    others = await writer.match(ids[~is_seen], forbidding)
    seen = await writer.match(ids[is_seen], forbidding)
    without_record = seen.unique - seen.known
    return Matched(
        others.unique + seen.unique,
        others.known + seen.unique,
        others.usable + seen.usable + without_record,
    )
