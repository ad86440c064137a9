"""
Loader and store are killed at random points: nothing is lost, nothing is doubled.

What must come of it is known: a second, empty store that one loader fills
without any disturbance. While processes die, persons erase themselves, too; it
must come to the same whether that was before a file reached them or after.
"""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from shutil import rmtree

import numpy as np
import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.account import Kind as AccountKind
from segments.blobs import Blobs
from segments.identity import Id, Kind
from segments.ingest.accept import accept
from segments.ingest.job import Job, State
from segments.ingest.validate import read_metadata
from segments.ledger import accounts, jobs
from segments.ledger.engine import open_ledger, reading
from segments.loader import Loader
from segments.optout import record_opt_out
from segments.projection import catch_up
from segments.record import Action
from segments.settings import Settings
from segments.store import keys
from segments.store.connection import connect
from segments.store.embedded import EmbeddedStore
from tests.segments.ingest.deliveries import PARTNER_ID, as_json, metadata_of

PERSONS = 100_000
ROWS = 60_000
WITHIN_S = 240

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

    def _id(self, number: int) -> Id:
        return Id(bytes.fromhex(self._hashes[64 * number : 64 * number + 32]))


class Host:
    """A data directory with its embedded store and its ledger."""

    def __init__(self, settings: Settings, ledger: AsyncEngine, store: EmbeddedStore) -> None:
        self.settings = settings
        self.ledger = ledger
        self.store = store
        self.blobs = Blobs.in_directory(settings.data_dir / "blobs")
        self._loader: asyncio.subprocess.Process | None = None

    async def deliver(self, deliveries: Deliveries) -> list[Job]:
        async with self.ledger.begin() as conn:
            await accounts.add_account(conn, AccountKind.ADVERTISER, PARTNER_ID, "P", now_s=0)
        return [
            await accept(
                self.ledger,
                self.blobs,
                read_metadata(as_json(metadata_of(content, records=ROWS, segments=segments))),
                [content],
                door="test",
                file_name="a.txt",
                now_s=time.time(),
            )
            for content, segments in deliveries.files
        ]

    async def erase(self, redis: Redis, person: Id) -> None:
        await record_opt_out(self.ledger, redis, Action.ERASURE, [(Kind.EMAIL, person)])

    async def start_loader(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SEGMENTS_")}
        environment["SEGMENTS_DATA_DIR"] = str(self.settings.data_dir)
        environment["SEGMENTS_REDIS_URL"] = self.settings.store_url
        environment["SEGMENTS_EXPECTED_IDS"] = str(PERSONS)
        self._loader = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "segments", "loader",
            env=environment, cwd=self.settings.data_dir, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

    async def kill_loader(self) -> None:
        assert self._loader is not None
        self._loader.kill()
        await self._loader.wait()

    async def kill_store(self) -> None:
        pid = int((self.settings.data_dir / "store" / "lock").read_text())
        os.kill(pid, signal.SIGKILL)
        await self.store.wait()

    async def unfinished(self) -> Job | None:
        """Return the job whose turn it is."""
        async with reading(self.ledger) as conn:
            latest = await jobs.jobs(conn, 100)
        return next((job for job in reversed(latest) if job.state is not State.DONE), None)

    async def dump(self, redis: Redis) -> Dump:
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
        async with open_ledger(settings) as ledger, connect(settings.store_url) as redis:
            yield Host(settings, ledger, store), redis
    finally:
        await store.stop()
        rmtree(folder)


async def undisturbed(deliveries: Deliveries) -> tuple[Dump, list[int]]:
    """Carry all files and then all erasures; return what is held and what was written of each."""
    async with a_host() as (host, redis):
        submitted = await host.deliver(deliveries)
        loader = Loader(host.settings, host.ledger, redis, host.blobs)
        await loader.catch_up()
        done = [await loader.carry(job, asyncio.Event(), lambda _: None) for job in submitted]
        for person in deliveries.erased:
            await host.erase(redis, person)
        return await host.dump(redis), [job.report.written for job in done]


async def crash(host: Host, redis: Redis, deliveries: Deliveries, rng: Random, rounds: int) -> int:
    """
    Kill one or the other, so many times, each time a moment after something has happened.

    Return how often a job was at work then.
    """
    at_work = 0
    erasing = list(deliveries.erased)
    for _ in range(rounds):
        await something_new(host)
        await asyncio.sleep(rng.uniform(0, 0.5))
        job = await host.unfinished()
        at_work += job is not None and job.state is State.RUNNING
        is_loader = rng.random() < 0.6
        await (host.kill_loader() if is_loader else host.kill_store())
        if erasing:
            await host.erase(redis, erasing.pop())
        await (host.start_loader() if is_loader else host.store.start())
    for person in erasing:
        await host.erase(redis, person)
    return at_work


async def something_new(host: Host) -> None:
    """
    Wait until a loader is at work on a job.

    Or until it got further, where others have died of the job: it is given up
    if that happens too often in one place.
    """
    first = await host.unfinished()
    async with asyncio.timeout(WITHIN_S):
        while True:
            job = await host.unfinished()
            if job is None or first is None or job.id != first.id:
                return
            if job.state is State.RUNNING and job.checkpoint.deaths < 3:
                return
            if job.checkpoint.next_part > first.checkpoint.next_part:
                return
            await asyncio.sleep(0.02)


async def until_done(host: Host) -> None:
    async with asyncio.timeout(WITHIN_S):
        while await host.unfinished() is not None:  # noqa: ASYNC110 - no event comes from there
            await asyncio.sleep(0.05)


async def survives(seed: int, *, files: int, rounds: int) -> None:
    deliveries = Deliveries(seed, files)
    expected, written = await undisturbed(deliveries)

    async with a_host() as (host, redis):
        await catch_up(host.ledger, redis, host.settings)
        await host.deliver(deliveries)
        await host.start_loader()
        try:
            at_work = await crash(host, redis, deliveries, Random(seed), rounds)
            await until_done(host)
        finally:
            await host.kill_loader()
        # What the store did not hear of while it was down: the next loader brings it.
        await catch_up(host.ledger, redis, host.settings)
        found = await host.dump(redis)
        async with reading(host.ledger) as conn:
            done = list(reversed(await jobs.jobs(conn, 100)))

    assert at_work >= rounds / 2
    assert [job.report.written for job in done] == written
    assert found == expected


@pytest.mark.timeout(300)
async def test_five_crashes_lose_nothing_and_double_nothing() -> None:
    await survives(1, files=2, rounds=5)


@pytest.mark.long
@pytest.mark.timeout(1500)
async def test_fifty_crashes_lose_nothing_and_double_nothing() -> None:
    await survives(2, files=12, rounds=50)
