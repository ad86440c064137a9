"""
Loader, store and REST doors are killed at random points: nothing is lost, nothing is doubled.

What must come of it is known: a second, empty store that one loader fills
without any disturbance. While processes die, persons erase themselves, too; it
must come to the same whether that was before a file reached them or after. And
a partner goes on uploading: what was acknowledged is one job each, and what was
broken off is none.
"""

import asyncio
from random import Random

import pytest
from redis.asyncio import Redis

from loadtest.ports import free_ports
from segments.ingest.uploaded_file import DOOR as UPLOAD_DOOR
from segments.ledger.database.engine import reading
from segments.ledger.tables import uploads as uploads_table
from segments.loader.loader import Loader
from segments.model.job import Job, JobState
from segments.projection.catalog import catch_up
from tests.faults.host import DOOR, Deliveries, Dump, Host, a_host
from tests.faults.uploader import Uploader

WITHIN_S = 240
UPLOAD_ROWS = 2000
VICTIMS = ("loader", "store", "api")


async def undisturbed(deliveries: Deliveries, uploaded: list[bytes]) -> tuple[Dump, list[int]]:
    """Carry all files and then all erasures; return what is held and what was written of each."""
    async with a_host() as (host, redis):
        await host.open_uploads()
        submitted = await host.deliver(deliveries)
        others = [await host.upload(content) for content in uploaded]
        loader = Loader(host.settings.loader_options, host.ledger, redis, host.blobs)
        await loader.catch_up()
        done = [await _carried(loader, job) for job in submitted]
        for job in others:
            await _carried(loader, job)
        for person in deliveries.erased:
            await host.erase(redis, person)
        return await host.dump(redis), [job.report.written for job in done]


async def _carried(loader: Loader, job: Job) -> Job:
    return await loader.carry(job, asyncio.Event(), lambda _: None)


class Crashes:
    """Kills one or the other, so many times, each time a moment after something has happened."""

    def __init__(self, host: Host, redis: Redis, uploader: Uploader, port: int) -> None:
        self.loading = 0  # loaders and stores that died while a job was at work
        self.uploading = 0  # REST doors that died while a file was on the way
        self._host = host
        self._redis = redis
        self._uploader = uploader
        self._port = str(port)

    async def start_api(self) -> None:
        await self._host.start("api", SEGMENTS_API_HOST="127.0.0.1", SEGMENTS_API_PORT=self._port)

    async def happen(self, deliveries: Deliveries, rng: Random, rounds: int) -> None:
        erasing = list(deliveries.erased)
        victims = [victim for _ in range(0, rounds, len(VICTIMS)) for victim in VICTIMS][:rounds]
        rng.shuffle(victims)
        for victim in victims:
            if victim == "api":
                await self._kill_api(rng)
            else:
                await self._kill(victim, rng)
            if erasing:
                await self._host.erase(self._redis, erasing.pop())
            await self._start(victim)
        for person in erasing:
            await self._host.erase(self._redis, person)

    async def _kill_api(self, rng: Random) -> None:
        async with asyncio.timeout(WITHIN_S):
            await self._uploader.is_sending.wait()
        await asyncio.sleep(rng.uniform(0, 0.3))
        self.uploading += self._uploader.is_sending.is_set()
        await self._host.kill("api")

    async def _kill(self, victim: str, rng: Random) -> None:
        await something_new(self._host)
        await asyncio.sleep(rng.uniform(0, 0.5))
        job = await self._host.unfinished(DOOR)
        self.loading += job is not None and job.state is JobState.RUNNING
        await (self._host.kill("loader") if victim == "loader" else self._host.kill_store())

    async def _start(self, victim: str) -> None:
        match victim:
            case "api":
                await self.start_api()
            case "loader":
                await self._host.start("loader")
            case _:
                await self._host.store.start()


async def something_new(host: Host) -> None:
    """
    Wait until a loader is at work on a job.

    Or until it got further, where others have died of the job: it is given up
    if that happens too often in one place.
    """
    first = await host.unfinished(DOOR)
    async with asyncio.timeout(WITHIN_S):
        while True:
            job = await host.unfinished(DOOR)
            if job is None or first is None or job.id != first.id:
                return
            if job.state is JobState.RUNNING and job.checkpoint.deaths < 3:
                return
            if job.checkpoint.next_part > first.checkpoint.next_part:
                return
            await asyncio.sleep(0.02)


async def until_done(host: Host) -> None:
    async with asyncio.timeout(WITHIN_S):
        while await host.unfinished() is not None:  # noqa: ASYNC110 - no event comes from there
            await asyncio.sleep(0.05)


async def jobs_of_uploads(host: Host) -> dict[str, int | None]:
    """Return the job of each upload that was asked for."""
    async with reading(host.ledger) as conn:
        rows = await conn.execute(uploads_table.select())
        return {row.request_id: row.job_id for row in rows}


async def survives(seed: int, *, files: int, rounds: int) -> None:
    deliveries, rng = Deliveries(seed, files), Random(seed)
    (port,) = free_ports(1)
    uploader = Uploader(
        f"http://127.0.0.1:{port}", lambda: deliveries.some(rng, UPLOAD_ROWS), Random(seed)
    )

    async with a_host() as (host, redis):
        await catch_up(host.ledger, redis, host.settings.expected_ids)
        await host.open_uploads()
        await host.deliver(deliveries)
        crashes, stopping = Crashes(host, redis, uploader, port), asyncio.Event()
        await crashes.start_api()
        await host.start("loader")
        uploading = asyncio.create_task(uploader.run(stopping))
        try:
            await crashes.happen(deliveries, Random(seed), rounds)
            stopping.set()
            await asyncio.wait_for(uploading, WITHIN_S)
            await until_done(host)
        finally:
            uploading.cancel()
            await host.kill("loader")
            await host.kill("api")
        # What the store did not hear of while it was down: the next loader brings it.
        await catch_up(host.ledger, redis, host.settings.expected_ids)
        found, done = await host.dump(redis), await host.jobs()
        upload_to_job = await jobs_of_uploads(host)

    expected, written = await undisturbed(deliveries, list(uploader.acknowledged.values()))
    uploaded = {job.id: job.report.written for job in done if job.door == UPLOAD_DOOR}
    acknowledged = [upload_to_job[request_id] for request_id in uploader.acknowledged]
    assert crashes.loading >= rounds / 3
    assert crashes.uploading >= rounds / 6
    assert set(uploaded.values()) == {UPLOAD_ROWS}
    assert sorted(job_id or 0 for job_id in acknowledged) == sorted(uploaded)
    assert [upload_to_job[request_id] for request_id in uploader.broken_off] == [None] * len(
        uploader.broken_off
    )
    assert [job.report.written for job in done if job.door == DOOR] == written
    assert found == expected


@pytest.mark.timeout(300)
async def test_six_crashes_lose_nothing_and_double_nothing() -> None:
    await survives(1, files=16, rounds=6)


@pytest.mark.long
@pytest.mark.timeout(1500)
async def test_fifty_crashes_lose_nothing_and_double_nothing() -> None:
    await survives(2, files=48, rounds=50)
