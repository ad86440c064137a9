"""A deployment in small, for one process with one fault: store, ledger, files, and its parts."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from loadtest.ports import free_ports
from segments.doors.live_audience.accept import accept
from segments.doors.live_audience.metadata import read_metadata
from segments.files.blobs import Blobs
from segments.ledger import accounts, jobs
from segments.ledger.database.engine import open_ledger, reading
from segments.ledger.privacy import opt_outs
from segments.model.account import AccountKind
from segments.model.identity import Id, IdentifierKind
from segments.model.job import Job, JobState
from segments.model.record import OptOutAction
from segments.settings import Settings
from tests.commands import run_command
from tests.deploy.process import Process
from tests.deploy.scrapes import Scrape, scrape
from tests.engines import Engine
from tests.segments.ingest.deliveries import PARTNER_ID, as_json, metadata_of

WITHIN_S = 120
_POLL_S = 0.05


class Deployment:
    """
    What the processes work on; a ledger of one partner.

    Args:
        folder: For the processes and their files.
        store: Empty.
        ledger: Its engine.
    """

    def __init__(
        self, folder: Path, store: Engine, settings: Settings, ledger: AsyncEngine
    ) -> None:
        self.folder = folder
        self.store = store
        self.settings = settings
        self.blobs = Blobs.open(settings.blobs_at)
        self._ledger = ledger

    @asynccontextmanager
    async def process(
        self, command: str, port_setting: str, *arguments: str, **environment: str
    ) -> AsyncIterator["Scraped"]:
        """Run one of our processes, with health and metrics on a port of its own."""
        [port] = free_ports(1)
        process = Process(
            self.folder / command,
            (command, *arguments),
            port,
            self.environment | {port_setting: str(port), **environment},
        )
        await process.start()
        try:
            yield Scraped(f"segments-{command}", port, process)
        finally:
            await process.stop()

    @property
    def environment(self) -> dict[str, str]:
        """The settings of all processes and commands."""
        bare = {k: v for k, v in os.environ.items() if not k.startswith(("SEGMENTS_", "RTB_"))}
        return bare | {
            "SEGMENTS_REDIS_URL": str(self.settings.redis_url),
            "SEGMENTS_LEDGER_URL": str(self.settings.ledger_url),
            "SEGMENTS_BLOB_URL": str(self.settings.blob_url),
            "SEGMENTS_EXPECTED_IDS": str(self.settings.expected_ids),
        }

    async def command(self, *arguments: str) -> str:
        """Run a command of `rtb-segments` to its end, and return what it said."""
        done = await asyncio.to_thread(
            run_command, *arguments, env=self.environment, cwd=self.folder, within_s=WITHIN_S
        )
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    async def deliver(self, content: bytes, *segments: tuple[str, str], ago_s: float = 0.0) -> Job:
        """Have a file of the partner come, by default now."""
        metadata = metadata_of(content, records=content.count(b"\n"), segments=segments)
        return await accept(
            self._ledger,
            self.blobs,
            read_metadata(as_json(metadata)),
            [content],
            door="test",
            file_name="people.txt",
            now_s=time.time() - ago_s,
        )

    async def until_job(self, job: Job, state: JobState) -> None:
        """Wait until a file's job is so."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                async with reading(self._ledger) as conn:
                    now = await jobs.job(conn, job.id)
                assert now is not None
                if now.state is state:
                    return
                assert now.state in (JobState.QUEUED, JobState.RUNNING), now
                await asyncio.sleep(_POLL_S)

    async def say_no(self, *ids: Id, action: OptOutAction = OptOutAction.RESTRICT) -> None:
        """Record opt-outs, each of another person, which a loader has to apply."""
        async with self._ledger.begin() as conn:
            persons = [[(IdentifierKind.EMAIL, id_)] for id_ in ids]
            await opt_outs.record(conn, action, persons, now_s=time.time())


class Scraped:
    """A process, by its port of health and metrics."""

    def __init__(self, job: str, port: int, process: Process | None = None) -> None:
        self.job = job
        self.port = port
        self._process = process

    async def scrape(self) -> Scrape:
        """See of it what Prometheus sees."""
        return await scrape(self.job, self.port)

    async def until(self, metric: str, holds: Callable[[float], bool]) -> None:
        """Wait until a metric is there, and something holds of its greatest value of all labels."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                value = await self.greatest(metric)
                if value is not None and holds(value):
                    return
                await asyncio.sleep(_POLL_S)

    async def restart(self) -> None:
        """Replace it by another process."""
        assert self._process is not None
        await self._process.restart()

    async def stop(self) -> None:
        """End it."""
        assert self._process is not None
        await self._process.stop()

    async def greatest(self, metric: str) -> float | None:
        """Return the greatest value of a metric of all labels; `None`: it is not there."""
        values = (await self.scrape()).values.items()
        return max((value for name, value in values if name.startswith(metric)), default=None)


@asynccontextmanager
async def deployment(folder: Path, store: Engine) -> AsyncIterator[Deployment]:
    """Furnish a deployment whose store is empty."""
    (folder / "blobs").mkdir()
    settings = Settings(
        data_dir=folder,
        redis_url=store.url,
        ledger_url=f"sqlite+aiosqlite:///{folder}/ledger.db",
        blob_url=f"file://{folder}/blobs",
        expected_ids=10_000,
    )
    async with open_ledger(settings.ledger_dsn) as ledger:
        async with ledger.begin() as conn:
            await accounts.add_account(
                conn, AccountKind.ADVERTISER, PARTNER_ID, "Partner", now_s=time.time()
            )
        yield Deployment(folder, store, settings, ledger)
