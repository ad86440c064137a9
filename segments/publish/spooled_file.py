"""
A published file while it is made: on the local disk, written beside the event loop.

Compression and checksums, half of a full's time, release Python's lock. So they run in a thread, on
a few MiB at a time. A single piece waits for the thread: memory is bounded, and parts keep their
order.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Final

from segments.model.catalog import CatalogSnapshot
from segments.store.published.form import (
    Bucket,
    FileWriter,
    Header,
    PublishedOptOut,
    Written,
)

_PIECE_BYTES: Final = 1 << 20
"""So that the thread rarely waits for Python's lock, 5 ms at worst."""


class SpooledFile:
    """A file that is being written; take `spooled` instead."""

    def __init__(self, file: IO[bytes], header: Header) -> None:
        self._file = file
        self._writer = FileWriter(file, header)
        self._buckets: list[Bucket] = []
        self._bytes = 0
        self._writing: asyncio.Future[None] | None = None

    @property
    def path(self) -> Path:
        """Where the file is; whole after `end`."""
        return Path(self._file.name)

    async def buckets(self, buckets: list[Bucket]) -> None:
        """Write some buckets."""
        self._buckets += buckets
        self._bytes += sum(len(bucket.payload) for bucket in buckets)
        if self._bytes >= _PIECE_BYTES:
            await self._flush()

    async def opt_outs(self, opt_outs: Sequence[PublishedOptOut]) -> None:
        """Write some opt-outs, before all buckets."""
        await self._begin(lambda: self._writer.opt_outs(opt_outs))

    async def catalog(self, catalog: CatalogSnapshot) -> None:
        """Write the catalog, after all buckets."""
        await self._flush()
        await self._begin(lambda: self._writer.catalog(catalog))

    async def end(self) -> Written:
        """Write the end of the file."""
        await self._flush()
        await self.settled()

        def end() -> Written:
            written = self._writer.end()
            self._file.flush()
            return written

        return await asyncio.to_thread(end)

    async def settled(self) -> None:
        """Wait until the thread has written everything that it was given."""
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    def cancel(self) -> None:
        """Give the file up: a thread that still writes meets a closed file."""
        if self._writing is not None:
            self._writing.cancel()

    async def _flush(self) -> None:
        if self._buckets:
            buckets, self._buckets, self._bytes = self._buckets, [], 0
            await self._begin(lambda: self._writer.buckets(buckets))

    async def _begin(self, write: Callable[[], None]) -> None:
        await self.settled()
        self._writing = asyncio.ensure_future(asyncio.to_thread(write))


@asynccontextmanager
async def spooled(spool_dir: Path, header: Header) -> AsyncIterator[SpooledFile]:
    """Begin a file, and delete it at the end of the context."""
    with NamedTemporaryFile(dir=spool_dir, prefix="publish-") as opened:
        file = SpooledFile(opened, header)
        try:
            yield file
        finally:
            file.cancel()
