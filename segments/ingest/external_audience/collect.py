"""
Turns the customer's files into one file of marked ids, in our blobs: the first step of a run.

    files, as listed  ->  rows  ->  persons  ->  marked ids  =blob=>  noted in the ledger

A file that has changed since the request ends the run: a mixture of two versions is neither. Once
the ledger notes that all files were read, the run only uses the blob. `person` hashes all
addresses, and passes none on.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.base_connection import BaseConnection, open_storage
from segments.files.blobs import Blobs
from segments.files.chunks import in_thread
from segments.files.customer_storage import NotThere, SourceFile, Storage, StorageAway
from segments.ingest.external_audience.delta import HEADER, delta_of
from segments.ingest.external_audience.person import PersonReader
from segments.ingest.external_audience.table import Table
from segments.ingest.in_thread import Abandoned
from segments.ledger.external_audience import run_source
from segments.model.customer_columns import CONTROLS, Columns
from segments.model.identity import ID_BYTES
from segments.model.stop_reason import Stopped, StopReason


class Collected(msgspec.Struct, frozen=True):
    """The counts of a run's files."""

    files: int = 0
    rows: int = 0
    bad: int = 0  # unreadable rows, and rows without a usable id
    ids: int = 0  # of the other rows
    unusable: int = 0  # values that are no id, in all rows
    # By control: rows with neither a plain yes nor a plain no; their persons left.
    unclear: dict[str, int] = {}


class Collecting:
    """Reads a run's files. `is_abandoned` stops it at the next rows."""

    def __init__(self, ledger: AsyncEngine, blobs: Blobs, blob: str, run_id: str) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._blob = blob
        self._run_id = run_id
        self._found = Collected()
        self.is_abandoned = False

    async def run(self) -> Collected:
        """
        Read all files, unless done before.

        Raises:
            Stopped: STORAGE_AWAY, FILE_NOT_FOUND, or the fault of a file.
            Abandoned: The waiter set `is_abandoned`.
        """
        source = await run_source.of_run(self._ledger, self._run_id)
        if source.collected is not None:
            return msgspec.convert(source.collected, Collected)
        if source.connection is None:
            raise Stopped(StopReason.STORAGE_AWAY, "the base connection was removed")
        chunks = self._chunks(source.connection, source.files, source.columns)
        await self._blobs.put(self._blob, in_thread(chunks))
        await run_source.keep_collected(
            self._ledger, self._run_id, msgspec.to_builtins(self._found)
        )
        return self._found

    def _chunks(
        self, connection: BaseConnection, files: Sequence[SourceFile], columns: Columns
    ) -> Iterator[bytes]:
        yield HEADER
        try:
            storage = open_storage(connection)
            for file in files:
                yield from self._chunks_of(storage, file, columns)
        except StorageAway as error:
            raise Stopped(
                StopReason.STORAGE_AWAY, f"base connection {connection.name}: {error}"
            ) from None

    def _chunks_of(self, storage: Storage, file: SourceFile, columns: Columns) -> Iterator[bytes]:
        try:
            with storage.open(file) as raw:
                required = [*(i.column for i in columns.identities), *columns.controls]
                others = [name for name in CONTROLS if name not in required]
                table = Table(raw, file.size_bytes, required, others)
                yield from self._read(table, columns)
            # A file that changed during the read is neither the old nor the new.
            storage.open(file).close()
        except NotThere:
            raise Stopped(
                StopReason.FILE_NOT_FOUND, f"{file.path} was changed or taken away meanwhile"
            ) from None
        except Stopped as stopped:
            raise Stopped(stopped.reason, f"{file.path}: {stopped.detail}") from None

    def _read(self, table: Table, columns: Columns) -> Iterator[bytes]:
        reader: PersonReader | None = None
        rows = bad = ids = 0
        for piece in table.pieces():
            if self.is_abandoned:
                raise Abandoned
            if reader is None:
                controls = table.columns[len(columns.identities) :]
                reader = PersonReader(columns.identities, controls)
            persons = reader.read(piece)
            marked = delta_of(persons.ids, persons.leaves)
            rows += len(persons.leaves)
            bad += len(persons.leaves) - persons.with_id
            ids += len(marked) // ID_BYTES
            yield marked
        found = self._found
        self._found = Collected(
            found.files + 1,
            found.rows + rows + table.bad,
            found.bad + bad + table.bad,
            found.ids + ids,
            found.unusable + (reader.unusable if reader else 0),
            dict(Counter(found.unclear) + (reader.unclear if reader else Counter())),
        )
