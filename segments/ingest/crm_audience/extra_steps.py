"""
What a file for an audience of the CRM door goes through besides.

    read  ->  plan  ->  count  ->  keep ids only  ->  brake  ->  merge
                        |          |
                        |          the delivered file goes
                        before the first membership is written: "known before this upload"

A file of typed columns is kept as the ids in it, 16 bytes each, and nothing
else: the store can be rebuilt from these, and what is not an id (a postal
address, a social security number, a value typed wrongly) is gone with the
delivered file, before anything of it is in the store. One that fails before
that goes as well, when its loader is through with it
(`segments.ingest.deletion.tidy`), for nothing was made of it. A file of one
column of e-mail hashes is kept as it is, like that of any other door.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from itertools import repeat
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from msgspec.structs import replace

from segments.files.blobs import delivery_name
from segments.ingest.crm_audience.columns import IN_BIDS, DataType
from segments.ingest.crm_audience.typed_parser import TypedParser
from segments.ingest.parse import Ids
from segments.ingest.read import AnyParser
from segments.ingest.seen_in_bids import Mask, seen_in_bids
from segments.ingest.spool import Spool
from segments.ledger import accounts
from segments.ledger.crm_audience import audiences as crm_audiences
from segments.ledger.crm_audience import uploads as crm_uploads
from segments.ledger.database.engine import reading
from segments.model.audience import AudienceState
from segments.model.order import Order
from segments.model.record import day_of
from segments.model.stop_reason import Stopped, StopReason
from segments.projection.one_ledger import own_meta
from segments.store.writer import Matched, Writer

if TYPE_CHECKING:
    from segments.ingest.tools import Tools  # which imports us
    from segments.model.job import Job

_TYPED_BLOCK_ROWS = 64 << 10
_ROWS_AT_ONCE = 256 << 10


class _Set(NamedTuple):
    """The values of one type in a file."""

    kind: DataType
    total: int
    spool: Spool | None  # none: no ids
    unique: int = 0  # of those without ids

    def batches(self) -> Iterator[Ids]:
        """Yield its ids, the same way every time."""
        if self.spool is not None:
            for batch in self.spool.batches(0, _ROWS_AT_ONCE):
                yield batch.ids


class CrmSteps:
    """
    What a job does for the CRM door's audiences; nothing where it changes none.

    A context manager: its spools vanish with it.
    """

    def __init__(self, tools: "Tools", audience_to_segment_id: Mapping[int, str]) -> None:
        self._tools = tools
        self._audience_ids = audience_to_segment_id.keys()
        self._segment_to_audience_id = {s: number for number, s in audience_to_segment_id.items()}
        self._open = ExitStack()
        self.typed_spools: Mapping[DataType, Spool] | None = None
        """Take the ids of a file by their type; `None` where it has no typed columns."""

    @classmethod
    async def of(cls, job: "Job", order: Order, tools: "Tools") -> Self:
        """Find out which audiences of the CRM door a job changes."""
        async with reading(tools.ledger) as conn:
            return cls(tools, await crm_audiences.named(conn, job.owner_id, order))

    def __enter__(self) -> Self:
        if self._audience_ids:
            self.typed_spools = {
                kind: self._open.enter_context(Spool(self._tools.spool_dir, _TYPED_BLOCK_ROWS))
                for kind in IN_BIDS
            }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()

    def addressed(self, order: Order) -> Order:
        """
        Name this door's audiences by their numbers.

        They have their names from this door, and not from who delivers to them.
        """
        segment_to_id = self._segment_to_audience_id
        return replace(
            order,
            segments=tuple(
                segment
                if segment.audience_id is not None
                else replace(segment, audience_id=segment_to_id.get(segment.segment_id))
                for segment in order.segments
            ),
        )

    async def check(self, job: "Job") -> None:
        """
        See that none of its audiences was deleted: nothing is planned for one that was.

        A plan that there is already names those that are left.

        Raises:
            Stopped: AUDIENCE_DELETED.
        """
        if not self._audience_ids or job.report.segments:
            return
        async with reading(self._tools.ledger) as conn:
            states = await crm_audiences.states(conn, self._audience_ids)
        if AudienceState.DELETED in states.values():
            raise Stopped(StopReason.AUDIENCE_DELETED)

    async def count(
        self, job: "Job", parser: AnyParser, spool: Spool, still_here: Callable[[], Awaitable[None]]
    ) -> None:
        """
        Count what a file brings, against a store that has nothing of it yet.

        An id matches that the store knows, or that was seen in bids lately,
        where the operator turned that on (`segments.store.seen_filter`).

        Args:
            job: Planned. One that has been counted is left alone.
            parser: That has read the file.
            spool: All its ids.
            still_here: Called now and then.
        """
        audience_to_action = {
            planned.audience_id: planned.action
            for planned in job.report.segments
            if planned.audience_id is not None and planned.audience_id in self._audience_ids
        }
        if not audience_to_action:
            return
        async with reading(self._tools.ledger) as conn:
            if await crm_uploads.is_counted(conn, job):
                return
            tree = await accounts.tree(conn)
        writer = Writer(self._tools.redis, await own_meta(self._tools.ledger, self._tools.redis))
        forbidding = tree.forbidding(job.owner_id)
        data_set: dict[str, Any] = {}
        sets = list(self._sets(parser, spool))
        all_seen = await seen_in_bids(
            self._tools.redis,
            day_of(self._tools.now_s()),
            [each.batches for each in sets],
            still_here,
        )
        for each, seen in zip(sets, all_seen or repeat(None, len(sets)), strict=True):
            matched = Matched(each.unique)
            for number, ids in enumerate(each.batches()):
                if seen is None:
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
                conn, job, audience_to_action, total_rows=parser.rows, data_set=data_set
            )

    async def keep_ids_only(self, job: "Job", spool: Spool) -> "Job":
        """Write the copy of a file that is kept in its place; return the job with that."""
        name = delivery_name(job.partner_id)
        await self._tools.blobs.put(
            name, (batch.ids.tobytes() for batch in spool.batches(0, _ROWS_AT_ONCE))
        )
        report = replace(job.report, is_ids=True, delivered_blob=job.blob)
        return replace(job, blob=name, report=report)

    def _sets(self, parser: AnyParser, spool: Spool) -> Iterator[_Set]:
        if not isinstance(parser, TypedParser):
            yield _Set(DataType.EMAIL, parser.rows, spool)
            return
        for kind, total in parser.type_to_total.items():
            if kind in IN_BIDS:
                assert self.typed_spools is not None, "it was parsed into these"
                yield _Set(kind, total, self.typed_spools[kind])
            else:
                # An estimate may be above what there is.
                unique = min(parser.type_to_distinct[kind].count, total)
                yield _Set(kind, total, None, unique)


async def _match_or_seen(
    writer: Writer, ids: Ids, forbidding: Collection[int], is_seen: Mask
) -> Matched:
    """
    Count as `Writer.match`, with the ids that were seen in bids among the known.

    What was seen and has no record may be used: nobody has opted it out.
    """
    others = await writer.match(ids[~is_seen], forbidding)
    seen = await writer.match(ids[is_seen], forbidding)
    without_record = seen.unique - seen.known
    return Matched(
        others.unique + seen.unique,
        others.known + seen.unique,
        others.usable + seen.usable + without_record,
    )
