import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from loadtest.bench.costs import say
from loadtest.bench.load_rate import DEEDS, metadata_of
from loadtest.bench.loader_at_work import loader_at_work, look_again
from loadtest.bench.rows import Rows
from segments.doors.live_audience.accept import accept
from segments.files.blobs import Blobs
from segments.files.chunks import file_chunks
from segments.ledger import jobs
from segments.ledger.database.engine import open_ledger, reading
from segments.model.job import Job, JobState
from segments.settings import Settings


class Load:
    """Loads files of the same rows, one segment after another, to be measured beside."""

    def __init__(
        self, ledger: AsyncEngine, settings: Settings, loader: Process, rows: Rows
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._loader = loader
        self._rows = rows
        self._file = settings.data_dir / "rows.sha2.txt.gz"
        say(f"writing a file of {rows.count:,} rows")
        self._digest = rows.write_file(self._file)
        self._job: Job | None = None
        self._delivered = 0

    async def is_at_work(self) -> bool:
        """Tell whether a file is being loaded."""
        if self._job is None:
            return False
        async with reading(self._ledger) as conn:
            self._job = await jobs.job(conn, self._job.id) or self._job
        return self._job.state is JobState.RUNNING

    async def keep_at_work(self) -> None:
        """
        Deliver the next file if none is being loaded, and wait until the load starts.

        Raises:
            WrongCount: The loader ended.
        """
        if await self.is_at_work():
            return
        self._delivered += 1
        name = str(self._delivered)
        deed = DEEDS[0]._replace(name=f"segment {name}", segment=name)
        self._job = await accept(
            self._ledger,
            Blobs.open(self._settings.blobs_at),
            metadata_of(self._digest, self._rows, deed),
            file_chunks(self._file),
            door="bench",
            file_name=self._file.name,
            now_s=time.time(),
        )
        while not await self.is_at_work():
            await look_again(self._loader)


@asynccontextmanager
async def loading(redis: Redis, settings: Settings, rows: Rows) -> AsyncIterator[Load]:
    """
    Run a loader until the end, on the CPUs of this thread.

    Raises:
        WrongCount: The loader ended.
    """
    async with (
        open_ledger(settings.ledger_dsn) as ledger,
        loader_at_work(ledger, redis, settings) as loader,
    ):
        yield Load(ledger, settings, loader, rows)
