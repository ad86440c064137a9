"""What a loader says of opt-outs, and what a worker makes of it, on both engines."""

import asyncio
import logging

import pytest
from redis.asyncio import Redis

from rtb.lookup.freshness import note_command
from rtb.lookup.link import LookupFault
from rtb.lookup.near_cache.lease import CacheLimits
from segments.store.freshness import raise_notes
from segments.store.reader import StoreUnusable
from segments.store.servers.masters import masters
from tests.edge.client import connected
from tests.edge.small_store import (
    MEMBER,
    bid_request,
    eventually,
    furnish,
    started,
)
from tests.edge.test_lookup import MEMBER_ID, MEMBER_RECORD, linked
from tests.engines import Engine
from tests.refusals import REFUSALS

MAX_AGE_S = 0.8
"""Less than an operator may set: it is what is waited for."""


async def raise_once(redis: Redis) -> None:
    await raise_notes(await masters(redis))


@pytest.fixture(autouse=True)
async def furnished(redis_client: Redis) -> None:
    await furnish(redis_client)


async def test_note_is_a_number_that_each_loader_raises(redis_client: Redis) -> None:
    for _ in range(3):
        await raise_once(redis_client)

    assert await redis_client.execute_command(*note_command()) == b"3"  # type: ignore[no-untyped-call] # redis-py


@pytest.mark.parametrize("code", REFUSALS)
async def test_store_that_does_not_write_has_no_note(
    engine: Engine, redis_client: Redis, code: str
) -> None:
    with REFUSALS[code](engine), pytest.raises(StoreUnusable, match="refuses to write"):
        await raise_once(redis_client)

    assert await redis_client.execute_command(*note_command()) is None  # type: ignore[no-untyped-call] # redis-py


@pytest.mark.parametrize("cache_bytes", [0, 1_000_000], ids=["no cache", "near cache"])
async def test_worker_enriches_only_while_loaders_speak(
    engine: Engine, redis_client: Redis, cache_bytes: int
) -> None:
    room = CacheLimits(cache_bytes, 20) if cache_bytes else None
    stale = LookupFault.OPT_OUTS_STALE
    speaking = asyncio.create_task(_speak(redis_client))
    async with linked(engine.url, opt_outs_max_age_s=MAX_AGE_S, probe_s=0.1, room=room) as link:
        found = await link.ask(MEMBER_ID)
        await asyncio.sleep(2 * MAX_AGE_S)
        is_up = link.is_up
        speaking.cancel()
        await eventually(lambda: link.lookup.fault is stale)
        refused = await link.ask(MEMBER_ID)
        await raise_once(redis_client)
        await eventually(lambda: link.is_up)
        again = await link.ask(MEMBER_ID)

    assert is_up, "for longer than one note is good for"
    assert refused is stale
    assert found == again == [MEMBER_RECORD]


async def test_new_worker_waits_for_the_first_change(engine: Engine, redis_client: Redis) -> None:
    await raise_once(redis_client)
    async with started(engine.url, opt_outs_max_age_s=60) as service:
        await eventually(lambda: service.worker.bids.lookup.fault is LookupFault.OPT_OUTS_STALE)
        async with connected(service.port) as client:
            await eventually(lambda: not service.worker.bids.is_blind)
            before = await client.post(bid_request(MEMBER))
            await raise_once(redis_client)
            await eventually(lambda: service.is_up)
            after = await client.post(bid_request(MEMBER))

    assert (before.outcome, after.outcome) == ("store_down", "enriched")
    assert service.count("store_down", "opt_outs_stale") == 1


async def test_link_that_comes_back_to_the_same_server_need_not_wait(
    engine: Engine, redis_client: Redis
) -> None:
    speaking = asyncio.create_task(_speak(redis_client))
    async with linked(engine.url, opt_outs_max_age_s=60, probe_s=0.1) as link:
        speaking.cancel()
        engine.ask("CLIENT", "KILL", "TYPE", "normal")
        await eventually(lambda: not link.is_up)
        await eventually(lambda: link.is_up)

    assert link.bugs == []


async def test_0_is_told_in_the_log(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    async with started(engine.url, opt_outs_max_age_s=0):
        pass

    assert "RTB_OPT_OUTS_MAX_AGE_S is 0" in caplog.text


async def test_replicas_that_are_asked_are_told_of_in_the_log(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """What an acknowledgement says is another thing then."""
    caplog.set_level(logging.WARNING)

    async with started(engine.url, read_replicas=True):
        pass

    assert "RTB_READ_REPLICAS: replicas of the store are asked, too" in caplog.text


async def _speak(redis: Redis) -> None:
    while True:
        await raise_once(redis)
        await asyncio.sleep(0.1)
