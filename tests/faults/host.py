"""A data directory with its embedded store and its ledger, and what happens to it."""

import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from shutil import rmtree

import numpy as np
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.live_audience.accept import accept
from segments.doors.live_audience.metadata import read_metadata
from segments.doors.rest.passwords import Passwords
from segments.files.blobs import Blobs
from segments.ingest.uploaded_file import arrived
from segments.ledger import accounts, audiences, jobs, uploads, users
from segments.ledger.database.engine import open_ledger, reading
from segments.model.account import AccountKind
from segments.model.identity import Id, IdentifierKind
from segments.model.job import Job, JobState
from segments.model.order import SegmentAction
from segments.model.record import OptOutAction as OptOut
from segments.projection.opt_outs import record_opt_out
from segments.settings import Settings
from segments.store import keys
from segments.store.embedded import EmbeddedStore
from segments.store.servers.connection import connect
from tests.commands import Started, start_command
from tests.segments.ingest.deliveries import PARTNER_ID, as_json, metadata_of

PERSONS = 100_000
ROWS = 60_000
DOOR = "test"
UPLOADER, PASSWORD = "shop", "correct horse battery"
UPLOADED = "160019"

Dump = dict[bytes, dict[bytes, bytes]]


class Deliveries:
    """Some files, and some persons who say no, by chance."""

    def __init__(self, seed: int, files: int) -> None:
        rng = Random(seed)
        self._hashes = np.random.default_rng(seed).bytes(PERSONS * 32).hex()
        self.files: list[tuple[bytes, list[tuple[str, str]]]] = []
        for _ in range(files):
            start = rng.randrange(PERSONS - ROWS)
            segments = [
                (segment, rng.choice(["add", "add", "remove"]))
                for segment in rng.sample("12345678", 6)  # some batches a file
            ]
            self.files.append((self._text(start, start + ROWS), segments))
        self.erased = [self._id(rng.randrange(PERSONS)) for _ in range(2 * files)]

    def _text(self, start: int, end: int) -> bytes:
        rows = (self._hashes[64 * n : 64 * n + 64] for n in range(start, end))
        return "".join(f"{row}\n" for row in rows).encode()

    def some(self, rng: Random, count: int) -> bytes:
        """Return a small file of some of the persons."""
        return self._text(start := rng.randrange(PERSONS - count), start + count)

    def _id(self, number: int) -> Id:
        return Id(bytes.fromhex(self._hashes[64 * number : 64 * number + 32]))


class Host:
    """A data directory with its embedded store and its ledger."""

    def __init__(self, settings: Settings, ledger: AsyncEngine, store: EmbeddedStore) -> None:
        self.settings = settings
        self.ledger = ledger
        self.store = store
        self.blobs = Blobs.in_directory(settings.data_dir / "blobs")
        self._processes: dict[str, Started] = {}

    async def open_uploads(self) -> None:
        """Let a partner of its own upload to an audience of its own."""
        async with self.ledger.begin() as conn:
            shop = await accounts.add_account(
                conn, AccountKind.ADVERTISER, UPLOADER, "Shop", now_s=0
            )
            await audiences.find_or_create_audience(conn, shop, shop, UPLOADED, "Uploaded", now_s=0)
            password_hash = await Passwords().hash(PASSWORD)
            await users.add_user(conn, UPLOADER, shop, password_hash, now_s=0)

    async def upload(self, content: bytes) -> Job:
        """Do what the REST door does with a file that has come."""
        blob = f"deliveries/1/{os.urandom(8).hex()}"
        stored = await self.blobs.put(blob, [content])
        now_s = time.time()
        async with self.ledger.begin() as conn:
            shop = await accounts.partner(conn, UPLOADER)
            [audience] = await audiences.find_audiences(conn, shop, UPLOADED)
            upload = await uploads.add_upload(
                conn, shop, audience, file_name="a.txt", action=SegmentAction.ADD, hash_type="sha2",
                now_s=now_s, expires_at_s=now_s,
            )  # fmt: skip
            return await arrived(
                conn,
                upload,
                audience,
                blob=blob,
                sha256=stored.sha256,
                size_bytes=stored.size_bytes,
                now_s=now_s,
            )

    async def deliver(self, deliveries: Deliveries) -> list[Job]:
        """Take the files in."""
        async with self.ledger.begin() as conn:
            await accounts.add_account(conn, AccountKind.ADVERTISER, PARTNER_ID, "P", now_s=0)
        return [
            await accept(
                self.ledger,
                self.blobs,
                read_metadata(as_json(metadata_of(content, records=ROWS, segments=segments))),
                [content],
                door=DOOR,
                file_name="a.txt",
                now_s=time.time(),
            )
            for content, segments in deliveries.files
        ]

    async def erase(self, redis: Redis, person: Id) -> None:
        """A person opts out."""
        await record_opt_out(self.ledger, redis, OptOut.ERASURE, [(IdentifierKind.EMAIL, person)])

    async def start(self, command: str, **environment: str) -> None:
        """Start one of our commands on this host."""
        env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("SEGMENTS_")},
            "SEGMENTS_DATA_DIR": str(self.settings.data_dir),
            "SEGMENTS_REDIS_URL": self.settings.store_url,
            "SEGMENTS_EXPECTED_IDS": str(PERSONS),
            **environment,
        }
        folder = self.settings.data_dir
        with (folder / f"{command}.log").open("ab") as log:
            started = await start_command(command, env=env, cwd=folder, output=log)
        self._processes[command] = started

    async def kill(self, command: str) -> None:
        """Kill a command of ours, if it runs."""
        process = self._processes.pop(command, None)
        if process is not None:
            process.kill()
            await process.wait()

    async def kill_store(self) -> None:
        """Kill the store's server; what it wrote to its file is there."""
        pid = int((self.settings.data_dir / "store" / "lock").read_text())
        os.kill(pid, signal.SIGKILL)
        await self.store.wait()

    async def unfinished(self, door: str = "") -> Job | None:
        """Return the job whose turn it is, of all doors or of one."""
        return next(
            (
                job
                for job in await self.jobs()
                if job.state is not JobState.DONE and door in ("", job.door)
            ),
            None,
        )

    async def jobs(self) -> list[Job]:
        """Return all jobs, the oldest first."""
        async with reading(self.ledger) as conn:
            return list(reversed(await jobs.jobs(conn, 100_000)))

    async def dump(self, redis: Redis) -> Dump:
        """Return every record, as its bytes."""
        names = [name async for name in redis.scan_iter(match=keys.BUCKET_PREFIX + b"*")]
        async with redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.hgetall(name.decode())
            return dict(zip(names, await pipeline.execute(), strict=True))


@asynccontextmanager
async def a_host() -> AsyncIterator[tuple[Host, Redis]]:
    # Short and under /tmp: a unix socket's path has 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="seg-"))
    settings = Settings(data_dir=folder, expected_ids=PERSONS, redis_url=None)
    store = EmbeddedStore(folder)
    await store.start()
    try:
        async with open_ledger(settings.ledger_dsn) as ledger, connect(settings.store_url) as redis:
            yield Host(settings, ledger, store), redis
    finally:
        await store.stop()
        rmtree(folder)
