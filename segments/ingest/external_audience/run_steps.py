"""
The steps of an external run, whose file marks each id as coming or leaving.

    collect  ->  read  ->  plan  ->  brake  ->  merge  ->  replace members
    the customer's files become                            if the run replaces: members that
    a file of ours, once                                   are not named leave
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from typing import Self

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ingest.brake import Removing
from segments.ingest.external_audience.collect import Collecting
from segments.ingest.external_audience.delta import DeltaParser, coming_and_leaving, merge_marked
from segments.ingest.external_audience.replace import replace_members
from segments.ingest.file_steps import Running
from segments.ingest.hash_steps import HashSteps
from segments.ingest.in_thread import awaited
from segments.ingest.merge import Merged
from segments.ingest.parse import FileParser, Ids
from segments.ingest.spool import PARTS, Spool
from segments.ingest.store_names import name_set
from segments.ingest.tools import Tools
from segments.ledger import audiences
from segments.model.audience import AudienceState
from segments.model.job import Job
from segments.model.order import Order
from segments.model.record import Change, Tally
from segments.projection.one_ledger import own_meta
from segments.store.writer import Writer


class RemovesMarked:
    """Leaving ids leave all audiences; in a replacement, so do all but the coming."""

    def __init__(self, *, replaces: bool) -> None:
        self._replaces = replaces

    def removed_from(self, changes: Sequence[Change]) -> frozenset[int]:
        """Return all audiences of the plan."""
        return frozenset(change.audience_id for change in changes)

    def leaver(self, ids: Ids, bucket_bits: int) -> Callable[[bytes], bool]:
        """Return a predicate for leaving members, by their last marks."""
        coming, leaving = coming_and_leaving(ids, bucket_bits)
        if not self._replaces:
            return name_set(leaving, bucket_bits).__contains__
        stays = name_set(coming, bucket_bits)
        return lambda name: name not in stays


class RunSteps(HashSteps):
    """See `segments.ingest.file_steps.FileSteps`."""

    @classmethod
    async def of(cls, job: Job, order: Order, tools: Tools) -> Self | None:
        """Return the steps of a job's file; `None` if another kind has it."""
        del job
        return cls(order, tools) if order.is_of_marked_ids else None

    async def prepare(self, running: Running, spools: ExitStack) -> None:
        """Collect the customer's files; count the rows that became no id."""
        del spools
        assert self.order.run_id is not None, "it is a run's: see `of`"
        collecting = Collecting(
            self._tools.ledger, self._tools.blobs, running.job.blob, self.order.run_id
        )
        collected = await awaited(collecting, collecting.run(), running.become)
        await running.become(report=replace(running.job.report, bad=collected.bad))

    @property
    def removing(self) -> Removing:
        """Return this rule of the plan's order."""
        return RemovesMarked(replaces=self.order.replaces)

    def parser(self, job: Job, first_block: bytes) -> FileParser:
        """Return a parser of marked ids."""
        del first_block
        return DeltaParser(job.report.bad)

    def merge(
        self,
        spool: Spool,
        first_part: int,
        writer: Writer,
        changes: Sequence[Change],
        pairs_per_batch: int,
    ) -> AsyncIterator[Merged]:
        """Add the coming ids, and remove the leaving ids."""
        return merge_marked(spool, first_part, writer, changes, pairs_per_batch)

    @classmethod
    async def audience_states(cls, conn: AsyncConnection, job: Job) -> dict[int, AudienceState]:
        """Return the state of the run's audience."""
        if not job.order.is_of_marked_ids:
            return {}
        numbers = [s.audience_id for s in job.order.segments if s.audience_id is not None]
        found = [await audiences.audience(conn, number) for number in numbers]
        return {audience.id: audience.state for audience in found}

    async def after_writing(self, running: Running, spool: Spool) -> None:
        """In a replacement, remove all other members, part by part."""
        if not self.order.replaces:
            return
        meta = await own_meta(self._tools.ledger, self._tools.redis)
        writer = Writer(self._tools.redis, meta)
        # All parts are merged, even if the last were empty.
        checkpoint = replace(running.job.checkpoint, next_part=PARTS, deaths=0)
        for change in await running.changes():
            first_part = checkpoint.next_retained
            async for done in replace_members(spool, first_part, writer, meta, change.audience_id):
                checkpoint = replace(checkpoint, next_retained=done.next_part)
                removed = {change.audience_id: Tally(removed=done.removed)}
                report = running.job.report.with_tallies(removed)
                await running.advance(report, checkpoint)
