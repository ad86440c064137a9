"""Which workers register as caching, and how long a writer waits for them, on both engines."""

import asyncio
import time
from typing import Any

from redis.asyncio import Redis

from segments.store import keys
from segments.store.cache_lease import (
    MAX_LEASE_MS,
    VOID_AFTER_S,
    lease_ms,
    outlived,
    register_command,
    wait_out_leases,
)
from tests.engines import Engine


async def register(redis: Redis, lease: int) -> None:
    await redis.execute_command(*register_command(lease))  # type: ignore[no-untyped-call] # redis-py


async def took_ms(waiting: Any) -> float:
    began_s = time.monotonic()
    await waiting
    return (time.monotonic() - began_s) * 1000


async def age(redis: Redis, by_s: int) -> None:
    """Let a registration have been made so long ago."""
    held = await redis.get(keys.CACHING)
    assert isinstance(held, bytes)
    lease, at_s = map(int, held.split())
    await redis.set(keys.CACHING, f"{lease} {at_s - by_s}")


async def test_nobody_waits_where_nobody_caches(redis_client: Redis) -> None:
    assert await lease_ms(redis_client) == 0


async def test_writer_waits_a_little_longer_than_the_lease(redis_client: Redis) -> None:
    await register(redis_client, 30)

    assert await lease_ms(redis_client) == 31
    assert await took_ms(wait_out_leases(redis_client)) >= 30


async def test_longest_lease_stands_while_it_is_renewed(redis_client: Redis) -> None:
    await register(redis_client, 50)
    await register(redis_client, 20)
    assert await lease_ms(redis_client) == 51

    await age(redis_client, 601)
    await register(redis_client, 20)
    assert await lease_ms(redis_client) == 21


async def test_registration_is_void_after_an_hour_and_not_before(redis_client: Redis) -> None:
    """
    It has no TTL, for a policy of eviction may delete what has one.
    """
    await register(redis_client, 20)
    await age(redis_client, VOID_AFTER_S - 5)
    assert await lease_ms(redis_client) == 21
    assert await redis_client.ttl(keys.CACHING) == -1

    await age(redis_client, 10)
    assert await lease_ms(redis_client) == 0


async def test_registration_from_the_future_counts(redis_client: Redis) -> None:
    """
    The server's clock was set back.
    """
    await register(redis_client, 20)
    await age(redis_client, -86_400)

    assert await lease_ms(redis_client) == 21


async def test_store_is_laid_out_anew_only_when_no_lease_can_be_left(
    engine: Engine, redis_client: Redis
) -> None:
    """
    A store that was emptied has forgotten who caches.
    """
    assert await took_ms(outlived(redis_client)) < MAX_LEASE_MS

    reader, writer = await asyncio.open_unix_connection(f"{engine.dir}/s.sock")
    try:
        writer.write(b"HELLO 3\r\nCLIENT TRACKING ON\r\n")
        await reader.readuntil(b"OK")
        assert await took_ms(outlived(redis_client)) >= MAX_LEASE_MS
    finally:
        writer.close()
        await writer.wait_closed()
