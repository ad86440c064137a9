"""Requests counted by the store, on every engine that we promise to run on."""

import time

import pytest
from redis.asyncio import Redis

from segments.model.limit import Limit
from segments.store import keys
from segments.store.request_rate import admit

LIMIT = Limit(burst=3, per_s=0.5)
NOW_S = time.time()


async def admitted(redis: Redis, *at_s: float, account_id: int | None = 7) -> list[int]:
    return [await admit(redis, account_id, LIMIT, now_s=NOW_S + each) for each in at_s]


async def test_burst_is_admitted_and_then_one_each_two_seconds(redis_client: Redis) -> None:
    assert await admitted(redis_client, 0, 0, 0, 0, 0) == [0, 0, 0, 2, 2]
    assert await admitted(redis_client, 1.5, 2, 2, 4) == [1, 0, 2, 0]


async def test_accounts_are_counted_apart(redis_client: Redis) -> None:
    await admitted(redis_client, 0, 0, 0)

    assert await admitted(redis_client, 0, account_id=8) == [0]
    assert await admitted(redis_client, 0, account_id=None) == [0]


async def test_bucket_is_gone_when_it_is_empty(redis_client: Redis) -> None:
    await admitted(redis_client, 0, 0)

    assert await redis_client.keys() == [keys.rate_key(7)]
    assert 3_000 < await redis_client.pttl(keys.rate_key(7).decode()) <= 4_000


async def test_request_that_is_refused_is_not_counted(redis_client: Redis) -> None:
    await admitted(redis_client, 0, 0, 0)
    before = await redis_client.get(keys.rate_key(7))
    await admitted(redis_client, 0, 0)

    assert await redis_client.get(keys.rate_key(7)) == before


@pytest.mark.parametrize("back_s", [10, 3600])
async def test_clock_that_is_behind_makes_nobody_wait_for_long(
    redis_client: Redis, back_s: float
) -> None:
    await admitted(redis_client, 0, 0, 0)

    assert await admitted(redis_client, -back_s) == [2]


async def test_script_that_the_store_forgot_is_sent_again(redis_client: Redis) -> None:
    await admitted(redis_client, 0)
    await redis_client.script_flush()

    assert await admitted(redis_client, 0, 0, 0) == [0, 0, 2]
