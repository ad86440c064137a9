import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.live_audience.accept import accept
from segments.doors.live_audience.metadata import read_metadata
from segments.files.blobs import Blobs
from segments.ledger import accounts, jobs, recipients
from segments.loader.catch_up import in_one_line
from segments.loader.loader import Loader
from segments.model.account import AccountKind
from segments.model.job import Job, JobState
from segments.model.stop_reason import StopReason
from segments.settings import Settings
from segments.store import keys
from segments.store.meta import prepare
from segments.store.reader import StoreUnusable, read_catalog, read_meta, read_records
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.segments.ingest.deliveries import (
    PARTNER_ID,
    as_json,
    email_hashes,
    ids_of,
    metadata_of,
    text_of,
)

WITHIN_S = 20


class RunningLoader:
    """A loader with its store and ledger, and what happens to it."""

    def __init__(
        self, settings: Settings, ledger: AsyncEngine, redis: Redis, blobs: Blobs, engine: Engine
    ) -> None:
        self.ledger = ledger
        self.redis = redis
        self.blobs = blobs
        self.engine = engine
        self.stopping = asyncio.Event()
        self.loader = Loader(settings.loader_options, ledger, redis, blobs)
        self.shown: list[Job] = []

    async def delivered(self, content: bytes, *, name: str = "a.txt", segment: str = "1") -> Job:
        metadata = metadata_of(
            content, records=len(content.splitlines()), segments=[(segment, "add")]
        )
        return await accept(
            self.ledger,
            self.blobs,
            read_metadata(as_json(metadata)),
            [content],
            door="test",
            file_name=name,
            now_s=time.time(),
        )

    async def job(self, job: Job) -> Job:
        async with self.ledger.connect() as conn:
            found = await jobs.job(conn, job.id)
        assert found is not None
        return found

    async def ended(self, job: Job) -> Job:
        async def has_ended() -> bool:
            return (await self.job(job)).state in (JobState.DONE, JobState.FAILED)

        await until(has_ended)
        return await self.job(job)


@pytest.fixture
async def world(
    valkey: Engine, ledger: AsyncEngine, settings: Settings
) -> AsyncIterator[RunningLoader]:
    async with ledger.begin() as conn:
        await accounts.add_account(conn, AccountKind.ADVERTISER, PARTNER_ID, "Partner", now_s=0)
    blobs = Blobs.in_directory(settings.data_dir / "blobs")
    async with connect(valkey.url) as redis:
        yield RunningLoader(settings, ledger, redis, blobs, valkey)


@pytest.fixture
async def running(world: RunningLoader) -> AsyncIterator[RunningLoader]:
    """A loader that carries jobs for as long as the test lasts."""
    task = asyncio.create_task(world.loader.run(world.stopping))
    yield world
    world.stopping.set()
    async with asyncio.timeout(WITHIN_S):
        await task


async def until(claim: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a claim holds; what happens in another process or the store tells nobody."""
    async with asyncio.timeout(WITHIN_S):
        while not await claim():  # noqa: ASYNC110 - no event comes from there
            await asyncio.sleep(0.02)


async def members(world: RunningLoader, hashes: list[str]) -> int:
    found = await read_records(world.redis, await read_meta(world.redis), ids_of(hashes))
    return sum(bool(record.memberships) for record in found)


async def test_delivered_files_are_carried_one_after_another(running: RunningLoader) -> None:
    first, second = email_hashes(100), email_hashes(100, start=100)
    submitted = [
        await running.delivered(text_of(first)),
        await running.delivered(text_of(second), segment="2"),
    ]

    ended = [await running.ended(job) for job in submitted]

    assert [job.state for job in ended] == [JobState.DONE, JobState.DONE]
    assert ended[0].finished_at_s < ended[1].started_at_s  # type: ignore[operator]
    assert await members(running, first + second) == 200


async def test_poisoned_file_fails_its_job_and_nothing_else(running: RunningLoader) -> None:
    poison = await running.delivered(b"person@example.com\n")
    good = await running.delivered(text_of(email_hashes(10)))

    assert (await running.ended(poison)).stop is StopReason.NO_VALID_RECORD
    assert (await running.ended(good)).state is JobState.DONE


async def test_fault_of_ours_fails_the_job_by_its_type_and_place_alone(
    world: RunningLoader, caplog: pytest.LogCaptureFixture
) -> None:
    """
    An exception's own message could quote a line of the file.
    """

    class Broken(Blobs):
        def get(self, name: str) -> object:  # type: ignore[override]
            raise KeyError("person@example.com")

    await world.loader.catch_up()
    broken = Loader(
        Settings(data_dir=world.engine.dir).loader_options,
        world.ledger,
        world.redis,
        Broken(world.blobs._store),
    )
    await world.delivered(text_of(email_hashes(10)))
    job = await broken.claim()
    assert job is not None

    ended = await broken.run_one(job, world.stopping)

    assert ended == await world.job(job)
    assert ended.stop is StopReason.INTERNAL
    assert "KeyError at segments.ingest.read:" in (ended.error or "")
    assert "example.com" not in (ended.error or "") + caplog.text


async def test_catalog_follows_while_a_job_runs(running: RunningLoader) -> None:
    job = await running.delivered(text_of(email_hashes(50_000)))
    async with running.ledger.begin() as conn:
        await recipients.add_recipient(conn, "dsp-a", now_s=0)

    async def is_shown() -> bool:
        return bool((await read_catalog(running.redis)).recipients)

    await until(is_shown)
    assert (await running.ended(job)).state is JobState.DONE


async def test_told_to_stop_it_stops_at_a_checkpoint_and_goes_on_later(
    world: RunningLoader,
) -> None:
    hashes = email_hashes(1000)
    await world.loader.catch_up()
    submitted = await world.delivered(text_of(hashes))
    job = await world.loader.claim()
    assert job is not None

    def stop(state: Job) -> None:
        if state.report.segments:
            world.stopping.set()

    stopped = await world.loader.run_one(job, world.stopping, stop)
    assert stopped.state is JobState.QUEUED
    assert await world.job(job) == stopped

    ended = await world.loader.carry(submitted, asyncio.Event(), world.shown.append)

    assert ended.state is JobState.DONE
    assert ended.report.added == 1000
    assert world.shown[-1] == ended


async def test_files_wait_while_the_store_is_away(
    running: RunningLoader, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    running.engine.kill()
    try:
        job = await running.delivered(text_of(email_hashes(100)))

        async def is_told() -> bool:
            return "waiting for the store" in caplog.text

        await until(is_told)
        assert (await running.job(job)).state is JobState.QUEUED
    finally:
        running.engine.start()

    assert (await running.ended(job)).state is JobState.DONE
    assert caplog.text.count("waiting for the store") == 1


async def test_server_that_may_evict_is_not_written_though_it_was_laid_out(
    world: RunningLoader,
) -> None:
    """
    Whoever laid it out may have gone; its configuration may be another today.
    """
    await prepare(world.redis, 10_000)
    await world.redis.config_set("maxmemory", "1gb")
    await world.redis.config_set("maxmemory-policy", "allkeys-lru")

    with pytest.raises(StoreUnusable, match="noeviction"):
        await world.loader.catch_up()


async def test_server_is_looked_at_again_after_each_of_its_starts_and_only_then(
    world: RunningLoader,
) -> None:
    """
    Our client connects anew by itself, so the loader looks whose run it is.
    """
    limits = []
    for is_restarted in (False, False, True):
        if is_restarted:
            world.engine.restart()
        await world.redis.config_set("hash-max-listpack-value", 64)
        await world.loader.catch_up()
        said = await world.redis.config_get("hash-max-listpack-value")
        limits.append({int(value or 0) for value in said.values()}.pop())

    assert limits == [1024, 64, 1024]


async def test_loader_sweeps(running: RunningLoader) -> None:
    async def is_swept() -> bool:
        return bool(await running.redis.exists(keys.SWEPT))

    await until(is_swept)


async def test_loader_stops_in_the_midst_of_a_sweep(world: RunningLoader) -> None:
    await world.loader.catch_up()
    pipeline = world.redis.pipeline()
    for bucket in range(128):
        pipeline.hset(
            f"seg:1:m:{bucket:x}", mapping={b"%08d" % n: b"\x10\x01\x01\x00" for n in range(300)}
        )
    await pipeline.execute()
    task = asyncio.create_task(world.loader.run(world.stopping))

    async def is_begun() -> bool:
        return bool(await world.redis.exists(keys.SWEPT))

    await until(is_begun)
    world.stopping.set()

    async with asyncio.timeout(WITHIN_S):
        await task


async def test_store_that_dies_under_a_job_leaves_it_queued(world: RunningLoader) -> None:
    await world.loader.catch_up()
    submitted = await world.delivered(text_of(email_hashes(1000)))
    job = await world.loader.claim()
    assert job is not None

    def kill_store(state: Job) -> None:
        if state.report.segments:
            world.engine.kill()

    try:
        with pytest.raises(RedisConnectionError):
            await world.loader.run_one(job, world.stopping, kill_store)
        left = await world.job(submitted)
    finally:
        world.engine.start()

    assert (left.state, left.checkpoint.deaths) == (JobState.QUEUED, 0)
    assert (await world.loader.carry(submitted, world.stopping, _not)).state is JobState.DONE


@pytest.mark.parametrize("command", ["eval", "hset", "set", "del"])
async def test_job_waits_for_a_store_that_refuses_any_of_its_writes(
    world: RunningLoader, command: str
) -> None:
    """
    A store that is full or has lost its replicas begins to refuse between any two of them.
    """
    await world.loader.catch_up()
    submitted = await world.delivered(text_of(email_hashes(1000)))
    job = await world.loader.claim()
    assert job is not None

    world.engine.ask("ACL SETUSER", "default", f"-{command}")
    try:
        with pytest.raises((StoreUnusable, RedisError)) as refused:
            await world.loader.run_one(job, world.stopping)
        left = await world.job(submitted)
    finally:
        world.engine.ask("ACL SETUSER", "default", "+@all")

    assert re.fullmatch(
        r"the store refuses[^:]*: [A-Z]+( to [A-Z]+)?; [^;]+", in_one_line(refused.value)
    )
    assert left.state is JobState.QUEUED
    assert (await world.loader.carry(submitted, world.stopping, _not)).state is JobState.DONE


async def test_carrying_a_job_carries_what_its_partner_has_before_it(world: RunningLoader) -> None:
    await world.loader.catch_up()
    older = await world.delivered(text_of(email_hashes(10)))
    newer = await world.delivered(text_of(email_hashes(20)))

    await world.loader.carry(newer, world.stopping, world.shown.append)

    assert (await world.job(older)).state is JobState.DONE
    assert {job.id for job in world.shown} == {newer.id}


async def test_job_that_another_loader_carries_is_watched_to_its_end(
    running: RunningLoader,
) -> None:
    submitted = await running.delivered(text_of(email_hashes(5000)))

    watching = await running.loader.carry(submitted, running.stopping, running.shown.append)

    assert watching.state is JobState.DONE


def _not(_: Job) -> None:
    pass


async def test_job_that_had_nothing_to_write_says_why(
    running: RunningLoader, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    job = await running.delivered(text_of(email_hashes(10)), segment="not-a-number")
    ended = await running.ended(job)

    assert (ended.state, ended.report.written) == (JobState.DONE, 0)
    await until(lambda: _said(caplog, "done, with nothing to write: each of its segments was"))


async def _said(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return any(text in line for line in caplog.messages)
