"""A partner whose quota is used up is told so before its bytes are taken, in the door's form."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import accounts, quotas
from segments.model.quota import UNLIMITED, Quota
from segments.settings import Settings
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.ledger_seed import seed
from tests.rest import serving
from tests.segments.doors.rest.rest_world import RestDoors, hashes, text_of, world_of

FILE = text_of(hashes("alice", "bob"))
NEW = {"advertiser": "shop", "name": "Boots"}


@pytest.fixture
async def world(
    settings: Settings, ledger: AsyncEngine, valkey: Engine
) -> AsyncIterator[RestDoors]:
    seeded = await seed(ledger)
    async with (
        connect(valkey.url) as redis,
        serving(settings, ledger, redis) as rest,
        world_of(rest, seeded) as world,
    ):
        yield world


async def limit(world: RestDoors, quota: Quota) -> None:
    async with world.rest.services.ledger.begin() as conn:
        shop = await accounts.partner(conn, "shop")
        await quotas.set_quota(conn, shop.id, quota)


async def test_file_over_the_quota_is_507_and_leaves_nothing_and_its_url_is_good(
    world: RestDoors,
) -> None:
    _, url = await world.presign()
    await limit(world, Quota(delivered_bytes_per_day=len(FILE) - 1))

    async def unannounced() -> AsyncIterator[bytes]:
        yield FILE

    refused = [await world.rest.ask("PUT", url, data=body) for body in (FILE, unannounced())]
    kept = await world.rest.services.blobs.names()
    await limit(world, UNLIMITED)
    taken = await world.rest.ask("PUT", url, data=FILE)

    for each in refused:
        assert each.status == 507
        assert "bytes delivered a day is used up" in each.body["detail"]
        assert 0 < int(each.headers["Retry-After"]) <= 86_400
    assert (kept, taken.status) == ([], 200)


async def test_url_chunk_and_audience_are_refused_as_well(world: RestDoors) -> None:
    await limit(world, Quota(deliveries_per_day=0, audiences=0))
    form = {"filename": "a.txt", "action": "add", "type": "sha2"}

    url = await world.rest.ask("POST", "/audience/upload/123", form)
    chunk = await world.rest.ask(
        "POST",
        "/realtime/audience/123?type=sha2&action=add",
        data=FILE,
        headers={"Content-Type": "text/plain"},
    )
    audience = await world.rest.ask("POST", "/audience", NEW)

    assert [each.status for each in (url, chunk, audience)] == [507] * 3
    assert audience.body["detail"] == "the quota of 0 audiences is used up; ask the operator"
    assert "Retry-After" not in audience.headers
