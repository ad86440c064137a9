"""A worker and a loader whose store's master is named by Sentinels."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from segments.files.blobs import Blobs
from segments.ledger.database.engine import open_ledger
from segments.loader.loader import Loader
from segments.model.identity import IdentifierKind, id_of_email_hash
from segments.model.record import Change, OptOutAction
from segments.projection.opt_outs import record_opt_out
from segments.settings import Settings
from segments.store.reader import read_meta
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from tests.cluster import in_thread, until_true
from tests.edge.client import connected
from tests.edge.small_store import MEMBER, STRANGER, Service, bid_request, eventually, started
from tests.ledger_seed import seed
from tests.sentinel import Watched, watched


@pytest.fixture
def servers(several_engine_name: str) -> Iterator[Watched]:
    with watched(several_engine_name) as servers:
        yield servers


@pytest.fixture
async def service(servers: Watched, tmp_path: Path) -> AsyncIterator[Service]:
    """A worker, and a loader that keeps the store up; MEMBER and STRANGER are members."""
    settings = Settings(data_dir=tmp_path / "data", expected_ids=10_000, redis_url=servers.url)
    stopping = asyncio.Event()
    async with open_ledger(settings.ledger_dsn) as ledger, connect(servers.url) as redis:
        seeded = await seed(ledger)
        loader = Loader(settings.loader_options, ledger, redis, Blobs.open(settings.blobs_at))
        await loader.catch_up()
        ids = [id_of_email_hash(person) for person in (MEMBER, STRANGER)]
        writer = Writer(redis, await read_meta(redis))
        await writer.merge(ids, [Change(seeded.shoes.id, is_add=True)])
        receipt = await record_opt_out(
            ledger,
            redis,
            OptOutAction.RESTRICT,
            [(IdentifierKind.EMAIL, id_of_email_hash(STRANGER))],
        )
        assert receipt.waits_because == ""
        running = asyncio.create_task(loader.run(stopping))
        try:
            async with started(servers.url) as service:
                await eventually(lambda: service.is_up)
                yield service
        finally:
            stopping.set()
            await running


async def _is_served(service: Service) -> bool:
    async with connected(service.port) as client:
        opted_out = await client.post(bid_request(STRANGER))
        member = await client.post(bid_request(MEMBER))
    # Whatever the servers are doing, she is not shown.
    assert opted_out.outcome in {"opted_out", "store_down"}
    assert member.outcome in {"enriched", "store_down"}
    return (opted_out.outcome, member.outcome) == ("opted_out", "enriched")


async def test_the_promoted_replica_is_asked_after_the_master_was_killed(
    servers: Watched, service: Service
) -> None:
    assert await _is_served(service)

    await in_thread(servers.servers[0].kill)
    await in_thread(until_true, lambda: servers.master() is servers.servers[1])

    await eventually(lambda: _is_served(service))


async def test_a_master_that_hung_and_comes_back_is_not_asked(
    servers: Watched, service: Service
) -> None:
    """It still takes itself for the master, until the Sentinels tell it."""
    await in_thread(servers.servers[0].freeze)
    await in_thread(until_true, lambda: servers.master() is servers.servers[1])
    await eventually(lambda: _is_served(service))

    servers.servers[0].thaw()

    for _ in range(20):
        assert await _is_served(service)
