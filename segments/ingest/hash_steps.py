"""A file of e-mail hashes: read, merged, kept as ids. Other kinds override some steps."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from typing import Self

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ingest.brake import Removing
from segments.ingest.file_steps import Running
from segments.ingest.ids_only import become_ids, is_late
from segments.ingest.merge import Merged, merge
from segments.ingest.parse import FileParser, Ids, Parser
from segments.ingest.spool import Spool
from segments.ingest.store_names import name_set
from segments.ingest.tools import Tools
from segments.model.audience import AudienceState
from segments.model.job import Job
from segments.model.order import Order
from segments.model.record import Change
from segments.store.writer import Writer


class RemovesNamed:
    """The file's persons leave the audiences that the plan removes from."""

    def removed_from(self, changes: Sequence[Change]) -> frozenset[int]:
        """Return those audiences; of two changes to an audience, the later wins."""
        audience_to_is_add = {change.audience_id: change.is_add for change in changes}
        return frozenset(id_ for id_, is_add in audience_to_is_add.items() if not is_add)

    def leaver(self, ids: Ids, bucket_bits: int) -> Callable[[bytes], bool]:
        """Return a predicate for the file's members."""
        return name_set(ids, bucket_bits).__contains__


class HashSteps:
    """See `segments.ingest.file_steps.FileSteps`."""

    def __init__(self, order: Order, tools: Tools) -> None:
        self.order = order
        self._tools = tools

    @classmethod
    async def of(cls, job: Job, order: Order, tools: Tools) -> Self | None:
        """Return the steps of a job's file; `None` if another kind has it."""
        del job
        return cls(order, tools)

    async def prepare(self, running: Running, spools: ExitStack) -> None:
        """Do nothing."""

    def parser(self, job: Job, first_block: bytes) -> FileParser:
        """Return a parser of hashes."""
        del job, first_block
        return Parser(self.order.hash_type)

    @property
    def removing(self) -> Removing:
        """Remove the file's persons, where the plan removes."""
        return RemovesNamed()

    async def before_writing(self, running: Running, parser: FileParser, spool: Spool) -> None:
        """Reduce the file to ids now if it has waited for days."""
        if is_late(running.job, self._tools.now_s()):
            await become_ids(running, self._tools.blobs, spool)

    def merge(
        self,
        spool: Spool,
        first_part: int,
        writer: Writer,
        changes: Sequence[Change],
        pairs_per_batch: int,
    ) -> AsyncIterator[Merged]:
        """Apply each change to each id."""
        return merge(spool, first_part, writer, changes, pairs_per_batch)

    async def after_writing(self, running: Running, spool: Spool) -> None:
        """Reduce the file to its ids."""
        await become_ids(running, self._tools.blobs, spool)

    async def while_waiting(self, running: Running, parser: FileParser, spool: Spool) -> None:
        """Reduce the file to its ids."""
        await become_ids(running, self._tools.blobs, spool)

    @classmethod
    async def audience_states(cls, conn: AsyncConnection, job: Job) -> dict[int, AudienceState]:
        """Return none: the file stays, even if its audiences are deleted."""
        del conn, job
        return {}
