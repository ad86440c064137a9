"""
The steps of `segments.ingest.run` in which kinds of files differ.

    prepare          before the file is read
    parser           turns the file's bytes into ids
    before_writing   after reading and planning, before the first write to the store
    removing         tells the brake how the file removes persons from audiences
    merge            writes the ids to the store
    after_writing    after the whole merge
    while_waiting    after reading the file of a job that has waited for days
    audience_states  the job has ended: do its audiences still exist?

Each kind is a class in `segments.ingest.file_kinds`.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ingest.brake import Removing
from segments.ingest.merge import Merged
from segments.ingest.parse import FileParser
from segments.ingest.spool import Spool
from segments.model.audience import AudienceState
from segments.model.job import Checkpoint, Job, Report
from segments.model.order import Order
from segments.model.record import Change
from segments.store.writer import Writer


class Running(Protocol):
    """A running job."""

    @property
    def job(self) -> Job:
        """The job's current state."""

    async def become(self, **fields: Any) -> None:
        """Save changed fields; without fields, show life."""

    async def advance(self, report: Report, checkpoint: Checkpoint) -> None:
        """Save a checkpoint, in the store's job mark too."""

    async def changes(self) -> list[Change]:
        """Return the plan's changes to each id, with the current opt-outs."""


class FileSteps(Protocol):
    """The steps of a job's file."""

    @property
    def order(self) -> Order:
        """The delivery's order, with the numbers of all audiences that this kind can look up."""

    @property
    def removing(self) -> Removing:
        """How the file removes persons from audiences."""

    async def prepare(self, running: Running, spools: ExitStack) -> None:
        """
        Prepare reading; `spools` closes spools opened here, after the work on the file.

        Raises:
            Stopped: The file can't be had, or has no more use.
        """

    def parser(self, job: Job, first_block: bytes) -> FileParser:
        """
        Return a parser for the file; `first_block` is unpacked, or empty before reading.
        """

    async def before_writing(self, running: Running, parser: FileParser, spool: Spool) -> None:
        """
        Work after reading, before the first write to the store; may be repeated.
        """

    def merge(
        self,
        spool: Spool,
        first_part: int,
        writer: Writer,
        changes: Sequence[Change],
        pairs_per_batch: int,
    ) -> AsyncIterator[Merged]:
        """Apply the changes to a spool's ids: see `segments.ingest.merge.merge`."""

    async def after_writing(self, running: Running, spool: Spool) -> None:
        """Work after all parts of the spool are in the store."""

    async def while_waiting(self, running: Running, parser: FileParser, spool: Spool) -> None:
        """
        Reduce the read file to ids while its job waits; the store may be away.
        """

    @classmethod
    async def audience_states(cls, conn: AsyncConnection, job: Job) -> dict[int, AudienceState]:
        """
        Return the states of a job's audiences that must leave no trace once deleted.

        Empty for a job of another kind.
        """
