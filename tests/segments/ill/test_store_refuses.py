"""
A store that goes on reading and refuses to write, on both real engines.

Files that were taken wait, nothing is acknowledged that is not so, each operator's place names
the code and the cure in one line, and all goes on by itself. A server that is only asked to
read looks well meanwhile.
"""

from collections.abc import AsyncIterator

import pytest

from segments.ledger.database.engine import open_ledger
from segments.loader.loader import Loader
from segments.model.job import JobState
from segments.settings import Settings
from segments.store.error_code import CURES
from segments.store.servers.connection import connect
from tests.edge.small_store import eventually
from tests.engines import Engine
from tests.ledger_seed import seed
from tests.refusals import REFUSALS
from tests.rest import serving
from tests.segments.doors.rest.rest_world import RestDoors, hashes, text_of, world_of
from tests.segments.ill.observed import running, wrong_by_doctor

ALICE, BOB = hashes("alice", "bob")


@pytest.fixture
async def world(settings: Settings, engine: Engine) -> AsyncIterator[RestDoors]:
    over = settings.model_copy(update={"redis_url": engine.url})
    async with (
        open_ledger(over.ledger_dsn) as ledger,
        connect(engine.url) as redis,
        serving(over, ledger, redis) as rest,
        world_of(rest, await seed(ledger)) as world,
    ):
        yield world


@pytest.mark.parametrize("code", ["MISCONF", "OOM", "READONLY"])
async def test_store_that_refuses_to_write_is_named_with_its_cure_and_costs_nothing(
    world: RestDoors, engine: Engine, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, url = await world.presign()
    loader = world.loader
    async with running(loader):
        await eventually(lambda: all_is_well(loader))
        with REFUSALS[code](engine):
            await eventually(lambda: names(loader, code))
            taken = await world.rest.ask("PUT", url, data=text_of([ALICE, BOB]))
            wrong, states = await wrong_by_doctor(world), await world.states()

        async def is_done() -> bool:
            return await world.states() == [JobState.DONE]

        await eventually(is_done)
        assert await loader.reasons() == []

    assert (taken.status, states) == (200, [JobState.QUEUED])
    assert any(is_named(code, each) for each in wrong), wrong
    assert await world.audiences_of(ALICE)
    assert not any(record.exc_info for record in caplog.records)


async def all_is_well(loader: Loader) -> bool:
    return await loader.reasons() == []


async def names(loader: Loader, code: str) -> bool:
    return any(is_named(code, why) for why in await loader.reasons())


def is_named(code: str, why: str) -> bool:
    if code == "READONLY" and "is a replica: name its master, or its Sentinels" in why:
        return True  # before it is written to
    return code in why and CURES[code] in why
