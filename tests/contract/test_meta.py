"""How a store becomes ours, on every engine that we promise to run on."""

import asyncio

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from segments.store import keys
from segments.store.error_code import Refusal, refusal_of
from segments.store.meta import advance_opt_outs, prepare
from segments.store.reader import Meta, StoreUnusable, read_meta
from segments.store.servers.connection import connect
from tests.engines import Engine


async def test_new_store_is_laid_out_for_the_expected_ids(redis_client: Redis) -> None:
    meta = await prepare(redis_client, 1_000_000)

    assert meta == Meta(bucket_bits=13, opt_outs=0, is_unfilled=True)
    assert await read_meta(redis_client) == meta
    assert await redis_client.keys() == [keys.META]


async def test_store_keeps_its_layout_whatever_is_expected_later(redis_client: Redis) -> None:
    first = await prepare(redis_client, 1_000_000)

    assert await prepare(redis_client, 10**9) == first


async def test_two_that_prepare_at_once_agree(engine: Engine) -> None:
    async with connect(engine.url) as one, connect(engine.url) as other:
        metas = await asyncio.gather(*(prepare(c, 10**n) for n in (4, 9) for c in (one, other)))

    assert len(set(metas)) == 1


async def test_store_without_meta_is_not_read(redis_client: Redis) -> None:
    with pytest.raises(StoreUnusable, match="start the loader"):
        await read_meta(redis_client)


async def test_long_command_without_a_password_is_refused_as_a_short_one(
    engine: Engine, redis_client: Redis
) -> None:
    """
    To more than ten words of a stranger a server says `ERR Protocol error`, and hangs up.
    """
    await redis_client.config_set("requirepass", "another")
    try:
        async with connect(engine.tcp_url) as stranger:
            with pytest.raises(RedisError) as caught:
                await read_meta(stranger)
    finally:
        await redis_client.config_set("requirepass", "")

    assert refusal_of(caught.value) == Refusal("NOAUTH", "HMGET")


async def test_store_of_another_layout_is_not_prepared(redis_client: Redis) -> None:
    await prepare(redis_client, 1_000_000)
    await redis_client.hset(keys.META.decode(), "layout", "2")

    with pytest.raises(StoreUnusable, match="layout 2"):
        await prepare(redis_client, 1_000_000)


async def test_memberships_without_meta_are_nobodys(redis_client: Redis) -> None:
    await redis_client.hset("seg:1:m:1f", "field", "value")

    with pytest.raises(StoreUnusable, match=r"delete its seg:1:\* keys"):
        await prepare(redis_client, 1_000_000)


async def test_keys_of_others_do_not_matter(redis_client: Redis) -> None:
    await redis_client.set("somebody:else", "1")

    assert await prepare(redis_client, 1_000_000) == Meta(13, 0, is_unfilled=True)


async def test_opt_outs_move_forward_and_never_back(redis_client: Redis) -> None:
    await prepare(redis_client, 1_000_000)

    held = []
    for seq in (9, 10, 2, 100):  # as text, 9 would be more than 10
        await advance_opt_outs(redis_client, seq, behind=0)
        held.append((await read_meta(redis_client)).opt_outs)

    assert held == [9, 10, 10, 100]


async def test_opt_outs_do_not_move_past_what_the_store_lacks(redis_client: Redis) -> None:
    """Another server may have taken the place of the one that was written to before."""
    await prepare(redis_client, 1_000_000)
    await advance_opt_outs(redis_client, 3, behind=0)

    await advance_opt_outs(redis_client, 6, behind=5)

    assert (await read_meta(redis_client)).opt_outs == 3


async def test_opt_outs_do_not_make_a_store_out_of_nothing(redis_client: Redis) -> None:
    await advance_opt_outs(redis_client, 5, behind=0)

    assert await redis_client.keys() == []


async def test_listpack_limits_are_raised_where_they_are_too_low(
    redis_client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await redis_client.config_set("hash-max-listpack-entries", 128)
    await redis_client.config_set("hash-max-listpack-value", 64)

    await prepare(redis_client, 1_000_000)

    assert await limits_of(redis_client) == {512, 1024}
    assert "hash-max-listpack-entries 512, hash-max-listpack-value 1024" in caplog.text


async def test_higher_listpack_limits_are_left_alone(redis_client: Redis) -> None:
    await redis_client.config_set("hash-max-listpack-entries", 2000)

    await prepare(redis_client, 1_000_000)

    assert await limits_of(redis_client) == {2000, 1024}


async def limits_of(redis: Redis) -> set[int]:
    """Read the server's listpack limits."""
    limits = await redis.config_get("hash-max-listpack-*")
    return {int(limit or 0) for limit in limits.values()}


@pytest.fixture
async def bound(engine: Engine, redis_client: Redis) -> Redis:
    """A user who may not CONFIG, as in a managed store."""
    await redis_client.acl_setuser(
        "bound", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-config"]
    )
    return connect(engine.tcp_url.replace("redis://", "redis://bound:secret@"))


async def test_managed_store_with_low_limits_says_what_to_set(
    redis_client: Redis, bound: Redis
) -> None:
    await redis_client.config_set("hash-max-listpack-value", 64)

    async with bound:
        with pytest.raises(StoreUnusable, match="set hash-max-listpack-value 1024 in its config"):
            await prepare(bound, 1_000_000)


async def test_managed_store_with_the_right_limits_needs_no_config(bound: Redis) -> None:
    async with bound:
        assert await prepare(bound, 1_000_000) == Meta(13, 0, is_unfilled=True)


async def test_store_that_may_evict_an_opt_out_is_refused(redis_client: Redis) -> None:
    await redis_client.config_set("maxmemory", "1gb")
    await redis_client.config_set("maxmemory-policy", "allkeys-lru")

    with pytest.raises(StoreUnusable, match="maxmemory-policy noeviction"):
        await prepare(redis_client, 1_000_000)


async def test_policy_that_spares_keys_without_ttl_is_accepted(redis_client: Redis) -> None:
    await redis_client.config_set("maxmemory", "1gb")
    await redis_client.config_set("maxmemory-policy", "volatile-lru")

    assert await prepare(redis_client, 1_000_000) == Meta(13, 0, is_unfilled=True)
