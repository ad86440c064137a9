"""
A part is ill: who asks is told so, nothing acknowledged is lost, and it heals by itself.

Readiness on a handle that was opened before, and a check that never writes, were both green while
nothing could be written: https://github.com/constellation-works/orbit/pull/1703,
https://github.com/Purple-Devs/health_check/issues/61
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database import sqlite
from segments.ledger.database.engine import open_ledger
from segments.ledger.health import ledger_reasons, write_reasons
from segments.model.job import JobState
from segments.projection.ills import Ills
from segments.runtime.causes import DirectoryGone
from segments.settings import Settings
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.ledger_seed import seed
from tests.postgres import Postgres
from tests.rest import serving
from tests.segments.doors.rest.rest_world import RestDoors, hashes, text_of, world_of
from tests.small_disk import MIB, mounted

FILE = text_of(hashes("alice", "bob"))
NEW = {"advertiser": "shop", "name": "Boots", "externalId": "x-1"}


@asynccontextmanager
async def doors_over(settings: Settings, valkey: Engine) -> AsyncIterator[RestDoors]:
    async with (
        open_ledger(settings.ledger_dsn) as ledger,
        connect(valkey.url) as redis,
        serving(settings, ledger, redis) as rest,
        world_of(rest, await seed(ledger)) as world,
    ):
        yield world


def ills_of(world: RestDoors) -> Ills:
    services, settings = world.rest.services, world.rest.settings
    return Ills(services.ledger, services.blobs, settings.data_dir, settings.reserve_bytes)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the write lock of a ledger, as a copy or a shell does."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    try:
        yield
    finally:
        other.close()


async def test_locked_ledger_is_503_and_named_and_is_written_again_afterwards(
    settings: Settings, valkey: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_TIMEOUT_MS", 300)
    async with doors_over(settings, valkey) as world:
        with locked(settings.data_dir / "ledger.db"):
            refused = await world.rest.ask("POST", "/audience", NEW)
            said, unread = await ills_of(world)(), await ledger_reasons(world.rest.services.ledger)
        made = await world.rest.ask("POST", "/audience", NEW)
        after = await ills_of(world)()

    assert (refused.status, refused.headers["Retry-After"]) == (503, "2")
    assert refused.body["detail"].startswith("the ledger is locked by another process")
    assert said == ["the ledger is locked by another process; end what holds it: a copy, a shell"]
    assert (unread, made.status, after) == ([], 201, [])


async def test_read_only_database_is_503_and_named_and_is_written_again_afterwards(
    postgres_settings: Settings, database: str, postgres: Postgres, valkey: Engine
) -> None:
    async with doors_over(postgres_settings, valkey) as world:
        ledger = world.rest.services.ledger
        await only_to_read(ledger, database, "on")
        refused = await world.rest.ask("POST", "/audience", NEW)
        said, unread = await write_reasons(ledger), await ledger_reasons(ledger)
        await only_to_read(ledger, database, "off")
        made = await world.rest.ask("POST", "/audience", NEW)

    assert (refused.status, refused.headers["Retry-After"]) == (503, "2")
    assert said == ["the ledger can only be read; let the service write to it"]
    assert (unread, made.status) == ([], 201)


async def only_to_read(ledger: AsyncEngine, database: str, value: str) -> None:
    """Set what new sessions may do, as an operator does before a move; and begin anew."""
    async with ledger.connect() as conn:
        await conn.execute(text("set transaction read write"))
        await conn.execute(
            text(f"alter database {database} set default_transaction_read_only = {value}")
        )
        await conn.commit()
    await ledger.dispose()


async def test_full_disk_of_the_ledger_is_507_and_reads_go_on(
    settings: Settings, valkey: Engine, tmp_path: Path
) -> None:
    with mounted(tmp_path / "small", size_bytes=16 * MIB) as disk:
        small = settings.model_copy(update={"data_dir": disk.path / "data", "reserve_bytes": MIB})
        async with doors_over(small, valkey) as world:
            disk.fill()
            refused = [
                await world.rest.ask("POST", "/audience", {**NEW, "externalId": f"{n}"})
                for n in range(40)
            ]
            said, unread = await ills_of(world)(), await ledger_reasons(world.rest.services.ledger)
            disk.make_room()
            made = await world.rest.ask("POST", "/audience", NEW)
            after = await ills_of(world)()

    assert (refused[-1].status, refused[-1].headers["Retry-After"]) == (507, "2")
    assert refused[-1].body["detail"] == "the ledger is full; send it again later"
    assert {each.status for each in refused} <= {201, 507}
    assert any("the storage of delivered files has no room" in each for each in said)
    assert (unread, made.status, after) == ([], 201, [])


async def test_blobs_that_are_gone_are_not_made_anew_and_are_used_again_when_back(
    settings: Settings, valkey: Engine
) -> None:
    async with doors_over(settings, valkey) as world:
        kept, away = settings.data_dir / "blobs", settings.data_dir / "blobs.away"
        request_id, url = await world.presign()
        assert (await world.rest.ask("PUT", url, data=FILE)).status == 200
        _, other_url = await world.presign()
        kept.rename(away)

        refused = await world.rest.ask("PUT", other_url, data=FILE)
        said = await ills_of(world)()
        loader = world.loader
        await loader.catch_up()
        job = await loader.claim()
        assert job is not None
        with pytest.raises(DirectoryGone):
            await loader.run_one(job, asyncio.Event())
        waiting, was_made = await world.states(), kept.exists()
        away.rename(kept)
        taken = await world.rest.ask("PUT", other_url, data=FILE)
        done = await world.load_all()

    assert (refused.status, refused.headers["Retry-After"]) == (503, "2")
    assert said == ["the storage of delivered files is not there; mount it, or put it back"]
    assert (waiting, was_made, taken.status) == ([JobState.QUEUED], False, 200)
    assert [each.state for each in done] == [JobState.DONE] * 2
    assert request_id
