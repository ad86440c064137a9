"""A task that is cancelled while it asks the store ends, at whichever step that is."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from segments.store.servers.connection import connect
from tests.engines import Engine

_TURNS = 30
"""Of the event loop: more than a call takes."""
_WITHIN_S = 5


async def _command(redis: Redis) -> object:
    return await redis.get("segments:nothing")


async def _pipeline(redis: Redis) -> object:
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.get("segments:nothing")
        pipeline.get("segments:nothing")
        return await pipeline.execute()


@pytest.mark.parametrize("ask", [_command, _pipeline])
async def test_cancellation_is_never_lost(
    valkey: Engine, ask: Callable[[Redis], Awaitable[object]]
) -> None:
    """
    github.com/python/cpython/issues/86296: `wait_for` loses one of the turn that ends its task.
    """

    async def asks_and_waits_for_ever() -> None:
        await ask(redis)
        await asyncio.Event().wait()

    async with connect(valkey.url) as redis:
        for turns in range(_TURNS):
            await ask(redis)  # connects, after a call that was cut off
            task = asyncio.create_task(asks_and_waits_for_ever())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            ended, lost = await asyncio.wait([task], timeout=_WITHIN_S)
            task.cancel()

            assert (len(ended), len(lost)) == (1, 0), f"lost after {turns} turns"
