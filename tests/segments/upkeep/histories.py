"""
What happens to a store in the course of time, by chance: jobs that are killed
and go on, chunks at once, persons who opt out while a job runs.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.live_audience.accept import accept
from segments.doors.live_audience.metadata import read_metadata
from segments.files.blobs import Blobs
from segments.ingest.parse import Parser
from segments.ingest.realtime import Chunk, Realtime
from segments.ingest.run import run
from segments.ingest.tools import Tools
from segments.ledger import accounts, audiences, job_leases
from segments.ledger.database.engine import open_ledger
from segments.model.account import Account, AccountKind
from segments.model.identity import IdentifierKind as IdKind
from segments.model.job import Job, JobState
from segments.model.order import SegmentAction
from segments.model.record import OptOutAction
from segments.projection.catalog import catch_up
from segments.projection.opt_outs import record_opt_out
from segments.settings import Settings
from segments.store import keys
from tests.segments.ingest.deliveries import (
    PARTNER_ID,
    as_json,
    email_hashes,
    ids_of,
    metadata_of,
    text_of,
)

HASHES = email_hashes(400)
SEGMENTS = ("1", "2", "3")


class Killed(Exception):
    """The end of a loader, as far as a job can tell."""


class History:
    """A store and a ledger, and everything that may happen to them."""

    def __init__(
        self, settings: Settings, ledger: AsyncEngine, redis: Redis, blobs: Blobs, seed: int
    ) -> None:
        self.ledger = ledger
        self.redis = redis
        self.settings = settings
        # Some dozen batches a job, so that there is a "while it runs".
        self.tools = Tools(ledger, redis, blobs, settings.spool_dir, time.time, 60)
        self.rng = Random(seed)
        self.partner: Account
        self.publisher: Account
        self.late = 0

    async def begin(self) -> None:
        """Make a partner with a publisher to whom it is related."""
        now_s = time.time()
        async with self.ledger.begin() as conn:
            self.partner = await accounts.add_account(
                conn, AccountKind.ADVERTISER, PARTNER_ID, "Partner", now_s=now_s
            )
            self.publisher = await accounts.add_account(
                conn, AccountKind.PUBLISHER, "p", "Publisher", now_s=now_s
            )
            await accounts.relate(conn, self.publisher, self.partner)
        await catch_up(self.ledger, self.redis, self.settings.expected_ids)

    async def deliver(self, hashes: list[str], segments: list[tuple[str, str]]) -> Job:
        """Deliver a file."""
        content = text_of(hashes)
        metadata = metadata_of(content, records=len(hashes), segments=segments)
        return await accept(
            self.ledger,
            self.tools.blobs,
            read_metadata(as_json(metadata)),
            [content],
            door="test",
            file_name="a.txt",
            now_s=time.time(),
        )

    async def carry(self, *, kill: float = 0.0, interrupt: float = 0.0) -> Job | None:
        """
        Carry the oldest job; with these chances after each batch it is killed,
        and something else happens.
        """
        async with self.ledger.begin() as conn:
            job = await job_leases.claim(conn, time.time())
        if job is None:
            return None

        async def keep(job: Job) -> None:
            async with self.ledger.begin() as conn:
                await job_leases.save(conn, job, time.time())
            if job.state is JobState.RUNNING and job.report.segments:
                if self.rng.random() < interrupt:
                    await self.happen()
                if self.rng.random() < kill:
                    raise Killed

        try:
            return await run(job, self.tools, keep)
        except Killed:
            async with self.ledger.begin() as conn:
                [job] = await job_leases.running(conn, time.time())
                await job_leases.save(conn, _queued(job), time.time())
            return _queued(job)

    async def happen(self) -> None:
        """Somebody says no, or sends a few hashes at once."""
        if self.rng.random() < 0.2:
            await self.at_once()
        else:
            await self.say_no()

    async def say_no(self) -> None:
        """A person opts out."""
        action = self.rng.choice([OptOutAction.RESTRICT] * 3 + [OptOutAction.ERASURE])
        account = self.rng.choice([None, self.partner.id, self.publisher.id])
        ids = [(IdKind.EMAIL, id_) for id_ in ids_of(self.rng.sample(HASHES, 2))]
        await record_opt_out(self.ledger, self.redis, action, ids, account)

    async def at_once(self) -> None:
        """A few hashes are applied at once, whatever runs."""
        hashes = self.rng.sample(HASHES, 20)
        content = text_of(hashes)
        parser = Parser("sha2")
        ids = parser.feed(content)
        async with self.ledger.connect() as conn:
            audience = await audiences.find_audience(conn, self.partner, "1")
        if audience is None:
            return
        at_once = Realtime(
            self.settings.expected_ids, self.ledger, self.redis, self.tools.blobs, time.time
        )
        action = self.rng.choice(list(SegmentAction))
        await at_once.apply(self.partner, Chunk(audience, action, "sha2", content, ids))

    async def happen_all(self, files: int = 5) -> None:
        """Let some files come and be carried, with all that may come between."""
        for _ in range(files):
            segments = [
                (segment, self.rng.choice(["add", "add", "remove"]))
                for segment in self.rng.sample(SEGMENTS, self.rng.randint(1, 3))
            ]
            await self.deliver(self.rng.sample(HASHES, 200), segments)
            if self.rng.random() < 0.3:
                await self.happen()
            while await self.carry(kill=0.05, interrupt=0.3) is not None:
                pass

    async def dump(self) -> dict[bytes, dict[bytes, bytes]]:
        """Return every record, as its bytes."""
        names = [name async for name in self.redis.scan_iter(match=keys.BUCKET_PREFIX + b"*")]
        return {name: await self.redis.hgetall(name) for name in names}  # type: ignore[misc]


def _queued(job: Job) -> Job:
    from msgspec.structs import replace

    return replace(job, state=JobState.QUEUED)


@asynccontextmanager
async def begun(settings: Settings, redis: Redis, seed: int = 0) -> AsyncIterator[History]:
    """A partner in a ledger on SQLite, and a store."""
    async with open_ledger(settings.ledger_dsn) as ledger:
        blobs = Blobs.in_directory(settings.data_dir / "blobs")
        history = History(settings, ledger, redis, blobs, seed)
        await history.begin()
        yield history
