"""A catalog that shows less is every bid's before that is acknowledged, on both engines."""

import asyncio
import time

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from rtb.server.catalog_follower import CatalogLease
from segments.store import keys
from segments.store.cache_lease import register_command
from segments.store.catalog_lease import DEFAULT_LEASE_MS, wait_out_catalog_leases
from tests.edge.client import connected
from tests.edge.small_store import MEMBER, bid_request, eventually, furnish, publish, started
from tests.engines import Engine
from tests.refusals import REFUSALS


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
async def furnished(redis_client: Redis) -> None:
    await furnish(redis_client)


async def took_ms(redis: Redis) -> float:
    began_s = time.monotonic()
    await wait_out_catalog_leases(redis)
    return (time.monotonic() - began_s) * 1000


async def test_writer_waits_for_the_default_though_nobody_is_registered(
    redis_client: Redis,
) -> None:
    assert await took_ms(redis_client) >= DEFAULT_LEASE_MS


async def test_writer_waits_for_the_longest_lease_that_is_registered(redis_client: Redis) -> None:
    for lease_ms in (1500, 1200):
        command = register_command(lease_ms, keys.CATALOG_LEASE)
        await redis_client.execute_command(*command)  # type: ignore[no-untyped-call] # redis-py

    assert await took_ms(redis_client) >= 1500


async def test_longer_lease_is_good_only_for_what_was_asked_behind_its_registration(
    redis_client: Redis,
) -> None:
    clock = Clock()
    lease = CatalogLease(5000, clock)

    before_s = lease.until_s(clock())
    await lease.register(redis_client)
    clock.now_s += 1
    behind_s = lease.until_s(clock())

    assert before_s == 101
    assert behind_s == 106
    assert await redis_client.exists(keys.CATALOG_LEASE)


@pytest.mark.parametrize("code", ["OOM", "NOPERM"])
async def test_worker_that_can_not_register_has_the_default_lease(
    engine: Engine, redis_client: Redis, code: str
) -> None:
    clock = Clock()
    lease = CatalogLease(5000, clock)

    with REFUSALS[code](engine):
        await lease.register(redis_client)
        clock.now_s += 1

    assert lease.until_s(clock()) == clock() + DEFAULT_LEASE_MS / 1000


async def test_shorter_lease_is_a_lease(redis_client: Redis) -> None:
    lease = CatalogLease(200, Clock())

    await lease.register(redis_client)

    assert lease.until_s(100) == 100.2
    assert not await redis_client.exists(keys.CATALOG_LEASE)


async def test_worker_whose_catalog_is_not_confirmed_enriches_nobody(
    engine: Engine, redis_client: Redis
) -> None:
    """
    It can ask for records, and so would go on showing what it had heard of last.
    """
    async with (
        started(engine.url, catalog_lease_ms=DEFAULT_LEASE_MS) as service,
        connected(service.port) as client,
    ):
        await eventually(lambda: service.is_up)
        await redis_client.delete(keys.VERSION)
        await redis_client.rpush(keys.VERSION.decode(), "not a version")
        await eventually(lambda: not service.worker.bids.is_confirmed)
        unconfirmed = await client.post(bid_request(MEMBER))
        await redis_client.delete(keys.VERSION)
        await publish(redis_client, 2)
        await eventually(lambda: service.is_up)
        confirmed = await client.post(bid_request(MEMBER))

    assert (unconfirmed.outcome, confirmed.outcome) == ("store_down", "enriched")
    assert service.count("store_down", "catalog_unconfirmed") == 1


async def test_what_was_withdrawn_is_shown_by_no_bid_that_begins_behind_the_wait(
    engine: Engine, redis_client: Redis
) -> None:
    """
    Bids come without a pause, and the worker hears of no change by pub/sub.
    """
    async with (
        started(engine.url, catalog_lease_ms=DEFAULT_LEASE_MS) as service,
        connected(service.port) as client,
    ):
        await eventually(lambda: service.is_up)
        for version in range(2, 4):
            segment_ids = ("101", "102") if version % 2 else ("101",)
            await publish(redis_client, version, segment_ids=segment_ids, is_told=False)
            waiting = asyncio.create_task(wait_out_catalog_leases(redis_client))
            while not waiting.done():
                await client.post(bid_request(MEMBER))
            await waiting
            answer = await client.post(bid_request(MEMBER))

            assert answer.outcome == "enriched"
            assert (b'"102"' in answer.body) == ("102" in segment_ids)


async def test_writer_that_can_not_tell_who_has_a_lease_acknowledges_nothing(
    engine: Engine, redis_client: Redis
) -> None:
    await redis_client.rpush(keys.CATALOG_LEASE.decode(), "no lease")

    with pytest.raises(ResponseError):
        await wait_out_catalog_leases(redis_client)
