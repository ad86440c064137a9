"""
Many commands in one round trip, for readers and writers of whole stores.

A pipeline of redis-py takes a third more of our CPU for a bucket, and its errors quote the command.
"""

from collections.abc import Awaitable, Sequence
from typing import Any, Protocol, cast

import hiredis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry

Command = tuple[bytes, ...]


class _Connection(Protocol):
    """As much of redis-py's as is needed here."""

    retry: Retry

    async def send_packed_command(self, packed: bytes) -> None: ...

    async def read_response(self, *, disable_decoding: bool) -> Any: ...

    async def disconnect(self, nowait: bool) -> None: ...


async def replies_to(redis: Redis, commands: Sequence[Command]) -> list[Any]:
    """
    Send idempotent commands to a store of one server, again after a lost connection.

    Returns:
        The replies, in order.

    Raises:
        redis.exceptions.RedisError: The first refusal, or the store can't be reached.
    """
    packed = b"".join(map(_packed, commands))
    pool = redis.connection_pool
    connection = cast("_Connection", await pool.get_connection())  # type: ignore[no-untyped-call] # redis-py

    async def exchange() -> list[Any]:
        await connection.send_packed_command(packed)
        return [await connection.read_response(disable_decoding=True) for _ in commands]

    def forget(_: Exception) -> Awaitable[None]:
        return connection.disconnect(nowait=True)

    try:
        return await connection.retry.call_with_retry(exchange, forget)
    except BaseException:
        await connection.disconnect(nowait=True)  # it still has replies
        raise
    finally:
        await pool.release(connection)  # type: ignore[arg-type] # a connection of its own


def _packed(command: Command) -> bytes:
    # The stub accepts only 1-tuples.
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
    return packed
