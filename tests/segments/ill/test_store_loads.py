"""
A store that still reads its data from disk: bids pass through, nothing is acknowledged, and it is
named.
"""

import asyncio
from collections.abc import Iterator

import pytest
import redis

from segments.ledger.database.engine import open_ledger
from segments.settings import Settings
from segments.store.error_code import CURES
from segments.store.servers.connection import connect
from tests.edge.client import connected
from tests.edge.small_store import bid_request, caught_up, eventually, serving
from tests.engines import ENGINES, Engine
from tests.segments.doors.privacy.privacy_world import ADA, privacy_world
from tests.segments.doors.rest.rest_world import RestDoors
from tests.segments.ill.observed import running, wrong_by_doctor

_SLOWLY = ("--key-load-delay", "200", "--loading-process-events-interval-bytes", "1024")
"""Microseconds for each command that it reads; after each thousand it looks who asks."""


@pytest.fixture(params=ENGINES)
def slow_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = Engine(request.param, extra=_SLOWLY)
    engine.start()
    yield engine
    engine.remove()


def fill(engine: Engine) -> None:
    """Write what takes ten seconds to read."""
    with redis.Redis.from_url(engine.url) as filling, filling.pipeline() as many:
        for n in range(50_000):
            many.set(f"ballast:{n}", "x")
        many.execute()


async def test_bids_pass_through_a_store_that_loads_and_are_answered_once_it_has(
    slow_engine: Engine,
) -> None:
    async with serving(slow_engine.url) as service, connected(service.port) as client:
        fill(slow_engine)
        slow_engine.stop()
        starting = asyncio.create_task(asyncio.to_thread(slow_engine.start))
        await eventually(lambda: service.worker.bids.lookup.refusal is not None)
        refusal = service.worker.bids.lookup.refusal
        message = service.worker.bids.lookup.message
        passed = await client.post(bid_request())
        await asyncio.to_thread(slow_engine.ask, "CONFIG", "SET", "key-load-delay", 0)
        await starting
        async with connect(slow_engine.url) as client_of_store:
            await caught_up(client_of_store)  # as a loader does
        await eventually(lambda: service.is_up)
        enriched = await client.post(bid_request())

    assert str(refusal) == "LOADING to GET"
    assert "it still reads its data from disk; that passes" in message
    assert enriched.outcome == "enriched"
    assert (passed.outcome, passed.body) == ("store_down", bid_request())


async def test_opt_out_waits_for_a_store_that_loads_and_doctor_and_loader_name_it(
    settings: Settings, slow_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    hurried = settings.model_copy(update={"redis_url": slow_engine.url, "opt_out_wait_s": 0.2})
    async with (
        open_ledger(hurried.ledger_dsn) as ledger,
        privacy_world(hurried, ledger, slow_engine) as world,
    ):
        doors = RestDoors(world.rest, world.seeded, world.redis)
        client = await world.bearer()
        loader = doors.loader

        async def said_by_loader() -> str:
            return " ".join(await loader.reasons())

        async def is_named() -> bool:
            return "LOADING" in await said_by_loader()

        async def is_well() -> bool:
            return not await said_by_loader()

        async with running(loader):
            await eventually(is_well)
            fill(slow_engine)
            slow_engine.stop()
            starting = asyncio.create_task(asyncio.to_thread(slow_engine.start))
            await eventually(is_named)
            said = await said_by_loader()
            told = await world.submit(client, "RESTRICT", ADA)
            wrong = await wrong_by_doctor(doors)
            await asyncio.to_thread(slow_engine.ask, "CONFIG", "SET", "key-load-delay", 0)
            await starting
            await eventually(is_well)
            again = await world.submit(client, "RESTRICT", ADA)

    assert CURES["LOADING"] in said
    assert (told.status, told.body["errorCode"]) == (503, "NOT_IN_FORCE_YET")
    assert told.headers["Retry-After"] == "5"
    assert sum("LOADING" in each and CURES["LOADING"] in each for each in wrong) >= 2, wrong
    assert (again.status, again.body["transactionId"]) == (202, told.body["transactionId"])
    assert not any(record.exc_info for record in caplog.records)
