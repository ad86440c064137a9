"""
The steps in which kinds of files differ, while `segments.ingest.run` carries their jobs.

    prepare          before the file is read
    parser           turns its bytes into ids
    before_writing   it is read and planned, and nothing of it is in the store
    removing         tells the brake how it takes persons out of audiences
    merge            writes it into the store
    after_writing    all of it has been merged
    while_waiting    it is read, and its job's turn has not come for days
    audience_states  the job has ended: are its audiences still there?

Each kind is one class; `segments.ingest.file_kinds` has the table of them. The plainest is
`segments.ingest.hash_steps`, from which the others differ.
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
    """A job in motion."""

    @property
    def job(self) -> Job:
        """What it has become."""

    async def become(self, **fields: Any) -> None:
        """Keep what has changed of it; without fields, a sign of life."""

    async def advance(self, report: Report, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint, in the store's mark of the job as well."""

    async def changes(self) -> list[Change]:
        """Return what its plan does to each id, by the opt-outs of now."""


class FileSteps(Protocol):
    """The steps of one job's file."""

    @property
    def order(self) -> Order:
        """What the delivery asks for, with every audience that the kind knows by number."""

    @property
    def removing(self) -> Removing:
        """How the file takes persons out of audiences."""

    async def prepare(self, running: Running, spools: ExitStack) -> None:
        """
        Make what reading needs.

        Args:
            running: The job, at its start or taken up again.
            spools: Closes what is opened here when the job is through with its file.

        Raises:
            Stopped: The file can't be had, or is for nothing any more.
        """

    def parser(self, job: Job, first_block: bytes) -> FileParser:
        """
        Return what reads the file.

        Args:
            job: As prepared.
            first_block: Of the file, unpacked; nothing where it could not be read yet.
        """

    async def before_writing(self, running: Running, parser: FileParser, spool: Spool) -> None:
        """
        Do what must be done while the store has nothing of the file yet, once or again.

        Args:
            running: The job, planned.
            parser: That has read the file.
            spool: Its ids.
        """

    def merge(
        self,
        spool: Spool,
        first_part: int,
        writer: Writer,
        changes: Sequence[Change],
        pairs_per_batch: int,
    ) -> AsyncIterator[Merged]:
        """Apply the changes to the ids of a spool: see `segments.ingest.merge.merge`."""

    async def after_writing(self, running: Running, spool: Spool) -> None:
        """Do what must be done when all parts of the spool are in the store."""

    async def while_waiting(self, running: Running, parser: FileParser, spool: Spool) -> None:
        """
        Keep of the file only ids, though its job's turn has not come; the store may be away.

        Args:
            running: The job, which waits on when this is done.
            parser: That has read the file.
            spool: Its ids.
        """

    @classmethod
    async def audience_states(cls, conn: AsyncConnection, job: Job) -> dict[int, AudienceState]:
        """
        Return how the audiences of a job stand of which nothing may be kept once they are deleted.

        Args:
            conn: A transaction.
            job: Of any kind; of another, there are none.
        """
