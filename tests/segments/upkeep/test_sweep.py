import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.blobs import DELIVERIES, Blobs
from segments.ledger import audiences
from segments.ledger.database.engine import open_ledger
from segments.model.audience import AudienceState
from segments.model.identity import Id
from segments.model.record import (
    EVERYONE,
    Change,
    Membership,
    OptOut,
    OptOutAction,
    Record,
    day_of,
)
from segments.settings import Settings
from segments.store import keys
from segments.store.meta import prepare
from segments.store.reader import StoreUnusable, read_meta, read_records
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from segments.upkeep.sweep import ORPHANED_AFTER_S, Swept, sweep_blobs, sweep_daily, sweep_store
from tests.engines import Engine
from tests.ledger_seed import NOW_S, seed
from tests.segments.ingest.deliveries import email_hashes, ids_of
from tests.segments.upkeep.histories import History


class BlobsAway(Exception):
    """The bucket did not answer."""


TODAY = day_of(NOW_S)
IDS = ids_of(email_hashes(300))


@pytest.fixture
async def redis(valkey: Engine) -> AsyncIterator[Redis]:
    async with connect(valkey.url) as client:
        await prepare(client, 10_000)
        yield client


@pytest.fixture
async def writer(redis: Redis) -> Writer:
    return Writer(redis, await read_meta(redis))


@pytest.fixture
async def on_sqlite(settings: Settings) -> AsyncIterator[AsyncEngine]:
    async with open_ledger(settings.ledger_dsn) as ledger:
        yield ledger


async def records(redis: Redis, ids: list[Id] = IDS) -> set[Record]:
    return set(await read_records(redis, await read_meta(redis), ids))


async def test_memberships_go_the_day_after_their_last_one(
    on_sqlite: AsyncEngine, redis: Redis, writer: Writer
) -> None:
    changes = [
        Change(1, is_add=True),
        Change(2, is_add=True, expiry_day=TODAY),
        Change(3, is_add=True, expiry_day=TODAY - 1),
    ]
    await writer.merge(IDS, changes)

    swept = await sweep_store(on_sqlite, redis, writer, NOW_S)

    assert swept.dropped == 300
    assert await records(redis) == {Record((), (Membership(1), Membership(2, TODAY)))}


async def test_deleted_audiences_are_emptied_and_others_are_not(
    on_sqlite: AsyncEngine, redis: Redis, writer: Writer
) -> None:
    seeded = await seed(on_sqlite)
    shoes, hats = seeded.shoes.id, seeded.hats.id
    async with on_sqlite.begin() as conn:
        await audiences.set_state(conn, seeded.shoes, AudienceState.DELETED, now_s=NOW_S)
        await audiences.set_state(conn, seeded.hats, AudienceState.DEACTIVATED, now_s=NOW_S)
    await writer.merge(IDS, [Change(shoes, is_add=True), Change(hats, is_add=True)])

    await sweep_store(on_sqlite, redis, writer, NOW_S)

    assert await records(redis) == {Record((), (Membership(hats),))}


async def test_person_of_whom_nothing_is_left_is_forgotten_and_an_opt_out_stays(
    on_sqlite: AsyncEngine, redis: Redis, writer: Writer
) -> None:
    restricted = OptOut(EVERYONE, OptOutAction.RESTRICT)
    await writer.merge(IDS, [Change(1, is_add=True, expiry_day=TODAY - 1)])
    await writer.opt_out(IDS[:1], restricted)

    await sweep_store(on_sqlite, redis, writer, NOW_S)

    assert await records(redis, IDS[:1]) == {Record((restricted,))}
    names = [name async for name in redis.scan_iter(match=keys.BUCKET_PREFIX + b"*")]
    assert len(names) == 1
    assert await redis.hlen(names[0]) == 1


async def test_bucket_with_an_unreadable_record_is_named_and_the_others_are_swept(
    on_sqlite: AsyncEngine, redis: Redis, writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    await writer.merge(IDS, [Change(1, is_add=True, expiry_day=TODAY - 1)])
    await redis.hset("seg:1:m:7", "12345678", "noise")

    swept = await sweep_store(on_sqlite, redis, writer, NOW_S)

    assert "bucket 7 of the store" in caplog.text
    assert swept.unreadable == 1
    assert swept.dropped > 250


async def test_closed_store_is_not_swept(
    on_sqlite: AsyncEngine, redis: Redis, tmp_path: Path
) -> None:
    blobs = Blobs.in_directory(tmp_path / "blobs")
    await redis.delete(keys.META)

    with pytest.raises(StoreUnusable):
        await sweep_daily(on_sqlite, redis, blobs, lambda: NOW_S)

    assert not await redis.exists(keys.SWEPT)


async def test_of_several_loaders_one_sweeps_and_once_a_day(
    on_sqlite: AsyncEngine, redis: Redis, tmp_path: Path
) -> None:
    blobs = Blobs.in_directory(tmp_path / "blobs")

    swept = [
        await sweep_daily(on_sqlite, redis, blobs, lambda at=at: NOW_S + at)  # type: ignore[misc]
        for at in (0, 1, 86_000, 86_400)
    ]

    assert swept == [(Swept(), 0), None, None, (Swept(), 0)]


async def test_sweep_that_was_broken_off_is_due_again(
    on_sqlite: AsyncEngine, redis: Redis, tmp_path: Path
) -> None:
    class Broken(Blobs):
        async def names_before(self, prefix: str, at_s: float) -> list[str]:
            raise BlobsAway

    blobs = Blobs.in_directory(tmp_path / "blobs")
    broken = Broken(blobs._store)

    with pytest.raises(BlobsAway):
        await sweep_daily(on_sqlite, redis, broken, lambda: NOW_S)

    assert await sweep_daily(on_sqlite, redis, blobs, lambda: NOW_S) is not None


async def test_files_that_no_job_names_are_deleted_when_they_are_old(
    on_sqlite: AsyncEngine, redis: Redis, settings: Settings, tmp_path: Path
) -> None:
    """
    A young one may be about to get its job.
    """
    directory = tmp_path / "blobs"
    blobs = Blobs.in_directory(directory)
    history = History(settings, on_sqlite, redis, blobs, seed=0)
    await history.begin()
    job = await history.deliver(email_hashes(1), [("1", "add")])
    for name in (f"{DELIVERIES}/1/old", f"{DELIVERIES}/1/young", "elsewhere/old"):
        await blobs.put(name, [b"x"])
    now_s = time.time()
    for name in (job.blob, f"{DELIVERIES}/1/old", "elsewhere/old"):
        os.utime(directory / name, (0, now_s - ORPHANED_AFTER_S - 1))

    assert await sweep_blobs(on_sqlite, blobs, now_s) == 1

    assert await blobs.names() == sorted([job.blob, f"{DELIVERIES}/1/young", "elsewhere/old"])
