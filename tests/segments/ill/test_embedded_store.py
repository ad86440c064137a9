"""
The embedded store's directory is gone while it runs, or the disk of its append-only file is full.

A server goes on with its files unlinked, and answers as before. One that can't append takes no
writes until it can.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from segments.ledger.database.engine import open_ledger
from segments.model.job import JobState
from segments.projection.ills import Ills
from segments.settings import Settings
from segments.store.embedded import EmbeddedStore, directory_in
from segments.store.error_code import CURES
from segments.store.servers.connection import connect
from tests.edge.client import connected
from tests.edge.small_store import bid_request, eventually, started
from tests.ledger_seed import seed
from tests.rest import serving
from tests.segments.doors.rest.rest_world import RestDoors, hashes, text_of, world_of
from tests.segments.ill.observed import running, wrong_by_doctor
from tests.segments.ill.test_store_refuses import all_is_well, is_named
from tests.small_disk import MIB, mounted

ALICE, BOB = hashes("alice", "bob")
OF_ALICE, OF_BOB = bid_request(ALICE), bid_request(BOB)


@asynccontextmanager
async def on_embedded_store(settings: Settings) -> AsyncIterator[RestDoors]:
    store = EmbeddedStore(settings.data_dir)
    await store.start()
    try:
        async with (
            open_ledger(settings.ledger_dsn) as ledger,
            connect(settings.store_url) as redis,
            serving(settings, ledger, redis) as rest,
            world_of(rest, await seed(ledger)) as world,
        ):
            yield world
    finally:
        await store.stop()


def ills_of(world: RestDoors) -> Ills:
    services, settings = world.rest.services, world.rest.settings
    return Ills(
        services.ledger, services.blobs, settings.data_dir, 0, embedded_in=settings.embedded_in
    )


async def deliver(world: RestDoors, *digests: str) -> None:
    """Hand a file over, and have it acknowledged."""
    _, url = await world.presign()
    assert (await world.rest.ask("PUT", url, data=text_of(digests))).status == 200


async def until_done(world: RestDoors) -> None:
    async def is_done() -> bool:
        return set(await world.states()) == {JobState.DONE}

    await eventually(is_done)


async def test_store_whose_directory_is_gone_is_told_of_and_is_well_when_it_is_back(
    settings: Settings,
) -> None:
    async with on_embedded_store(settings) as world, running(world.loader):
        await deliver(world, ALICE)
        await until_done(world)
        kept = directory_in(settings.data_dir)
        away = kept.rename(kept.with_name("away"))

        said, wrong = await ills_of(world)(), await wrong_by_doctor(world)
        async with started(settings.store_url) as newcomer, connected(newcomer.port) as client:
            passed = await client.post(OF_ALICE)
            away.rename(kept)
            await eventually(lambda: newcomer.is_up)
            enriched = await client.post(OF_ALICE)
        after = await ills_of(world)()

    assert said == [
        "the store's directory is not there, so nothing is kept of it; put it back, or start the"
        " service again and run `rtb-segments rebuild`"
    ]
    assert any("its directory is not there: put it back" in each for each in wrong), wrong
    assert (passed.outcome, passed.body) == ("store_down", OF_ALICE)
    assert (enriched.outcome, after) == ("enriched", [])


async def test_full_disk_below_the_append_only_file_is_named_and_costs_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    with mounted(tmp_path / "d", size_bytes=32 * MIB) as disk:
        settings.data_dir.mkdir()
        directory_in(settings.data_dir).symlink_to(disk.path)
        async with on_embedded_store(settings) as world:
            loader = world.loader
            async with (
                running(loader),
                started(settings.store_url) as service,
                connected(service.port) as client,
            ):
                await deliver(world, ALICE)
                await until_done(world)
                await eventually(lambda: service.is_up)
                disk.fill()

                async def is_said() -> bool:
                    # Each look writes a little, and at last there is no room for it.
                    return any(is_named("MISCONF", why) for why in await loader.reasons())

                await fill_up(world)
                await eventually(is_said)
                await deliver(world, BOB)
                wrong, states = await wrong_by_doctor(world), set(await world.states())
                meanwhile = await client.post(OF_ALICE)
                disk.make_room()
                await until_done(world)
                await eventually(lambda: all_is_well(loader))
                afterwards = await client.post(OF_BOB)

    assert any(CURES["MISCONF"] in each for each in wrong), wrong
    assert states == {JobState.DONE, JobState.QUEUED}
    assert (meanwhile.outcome, afterwards.outcome) == ("enriched", "enriched")


async def fill_up(world: RestDoors) -> None:
    """Write what the last page of the append-only file has no room for."""
    await world.redis.set("ballast", bytes(100_000))
    with pytest.raises(ResponseError, match="MISCONF"):
        await world.redis.set("more", b"x")
