import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from loadtest.bench.costs import say
from loadtest.bench.load_rate import (
    DEEDS,
    PARTNER_ID,
    environment_of,
    look_again,
    metadata_of,
    until_at_work,
)
from loadtest.bench.rows import Rows
from segments.doors.live_audience.accept import accept
from segments.files.blobs import Blobs
from segments.files.chunks import file_chunks
from segments.ledger import accounts, jobs
from segments.ledger.database.engine import open_ledger, reading
from segments.model.account import AccountKind
from segments.model.job import Job, JobState
from segments.runtime import child_process
from segments.settings import Settings

_STOP_WITHIN_S = 30


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
    async with open_ledger(settings.ledger_dsn) as ledger:
        async with ledger.begin() as conn:
            await accounts.add_account(
                conn, AccountKind.ADVERTISER, PARTNER_ID, "Bench", now_s=time.time()
            )
        loader = await child_process.start(
            [sys.executable, "-m", "segments", "loader"], env=environment_of(settings)
        )
        try:
            await until_at_work(redis, loader)
            yield Load(ledger, settings, loader, rows)
        finally:
            await child_process.stop(loader, within_s=_STOP_WITHIN_S)
