"""
Checks the store with the bid listener's credentials and commands.

If the listener's Redis user lacks a right or has a stale password, every bid passes through, while
other processes find the store well.
"""

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from segments.store import keys
from segments.store.error_code import refusal_of
from segments.store.reader import (
    RECORD_COMMAND,
    RUN_COMMAND,
    TRUST_COMMAND,
    StoreUnusable,
    read_version,
)
from segments.store.servers.connection import connect
from segments.store.servers.masters import masters
from segments.upkeep.doctor.findings import Finding, Grade

_HEARD_WITHIN_S = 2.0


async def look_as_listener(store_url: str) -> Finding:
    """Send the commands that bids send."""
    try:
        async with connect(store_url, retry=None) as redis:
            await _ask(redis)
            untold = await _untold(redis)
    except (RedisError, StoreUnusable, OSError) as error:
        refusal = refusal_of(error)
        if refusal is not None:
            return Finding(
                Grade.BAD, f"bids: the store refuses the bid listener: {refusal.with_cure}"
            )
        return Finding(
            Grade.BAD,
            f"bids: the store does not answer the bid listener ({type(error).__name__}); see"
            " RTB_REDIS_URL",
        )
    if untold is not None:
        return Finding(
            Grade.POOR,
            f"bids: the bid listener learns of no changes: {refusal_of(untold)}; give its user the"
            " channel seg:1:changed and SUBSCRIBE (ACL SETUSER)",
        )
    return Finding(Grade.GOOD, "bids: the store lets the bid listener ask what it must")


async def _ask(redis: Redis) -> None:
    for server in await masters(redis):
        await server.execute(*RUN_COMMAND)
        try:
            await server.execute(*RECORD_COMMAND)
        except ResponseError as error:
            # In a Cluster, MOVED (another node has the bucket) proves the right to ask.
            refusal = refusal_of(error)
            if refusal is not None and refusal.code == "NOPERM":
                raise
    await redis.execute_command(*TRUST_COMMAND)  # type: ignore[no-untyped-call] # redis-py
    await read_version(redis)
    for table in (keys.ACCOUNTS, keys.RECIPIENTS, keys.AUDIENCES):
        await redis.hvals(table.decode())


async def _untold(redis: Redis) -> ResponseError | None:
    async with redis.pubsub() as changes:
        await changes.subscribe(keys.CHANGED)
        try:
            await changes.get_message(timeout=_HEARD_WITHIN_S)
        except ResponseError as refused:
            return refused
    return None
