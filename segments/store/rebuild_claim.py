"""
The exclusive claim of a rebuild on the store.

    take        sets seg:1:rebuild, deletes the layout          no reads or writes from now on
    wipe        deletes everything else of ours that the ledger can restore
    check       before each write: is the claim still ours?
    hand_over   writes the layout, last of all                  reads and writes resume

Without a layout a store is not read: after a killed rebuild it answers no bid, and `rtb-segments
rebuild` starts again. Owner and told numbers stay in the meta.
"""

import secrets

from redis.asyncio import Redis

from segments.store import keys
from segments.store.changed_buckets import forget_all
from segments.store.meta import is_laid_out
from segments.store.reader import CAUGHT_UP, Meta, StoreUnusable
from segments.store.servers.masters import runs

_KEYS_AT_ONCE = 1000
_CLOSING = ("layout", "opt_outs", CAUGHT_UP, "unfilled")
"""A store without these fields is closed; `bucket_bits` stays."""

_CATALOG = (keys.AUDIENCES, keys.ACCOUNTS, keys.RECIPIENTS, keys.VERSION)


_AUTOMATIC = "auto-"


async def take(redis: Redis, *, is_automatic: bool = False) -> str:
    """
    Close the store; return the name of our claim.

    The name tells whether an operator started the rebuild. Wait before `wipe`: processes that have
    just read the meta may still write.
    """
    name = (_AUTOMATIC if is_automatic else "") + secrets.token_hex(8)
    await redis.set(keys.REBUILD, name)
    await _close(redis)
    return name


async def is_automatic(redis: Redis) -> bool:
    """Tell whether the current rebuild was started without an operator."""
    name = await redis.get(keys.REBUILD)
    return isinstance(name, bytes) and name.startswith(_AUTOMATIC.encode())


async def wipe(redis: Redis) -> None:
    """
    Delete all our data except the claim and the ids seen in bids.

    The ledger lacks those ids, and bids don't need them.
    """
    # Again: a process may have laid the store out after a check before the claim.
    await _close(redis)
    await redis.delete(keys.SWEPT)
    await redis.delete(keys.JOBS)
    await redis.delete(*_CATALOG)
    await forget_all(redis)
    # A scan may miss a slot that moves meanwhile.
    while await _wipe_buckets(redis):
        pass


async def _wipe_buckets(redis: Redis) -> bool:
    names = []
    found_any = False
    async for name in redis.scan_iter(match=keys.BUCKET_PREFIX + b"*", count=_KEYS_AT_ONCE):
        found_any = True
        names.append(name)
        if len(names) >= _KEYS_AT_ONCE:
            await _unlink(redis, names)
            names = []
    await _unlink(redis, names)
    return found_any


async def check(redis: Redis, name: str) -> None:
    """
    Check that the store is still under this claim.

    Raises:
        StoreUnusable: The store was lost, or taken by another rebuild.
    """
    if await redis.get(keys.REBUILD) != name.encode() or await is_laid_out(redis):
        raise _taken()


async def check_open(redis: Redis) -> None:
    """
    Check that no rebuild has closed the store again.

    Raises:
        StoreUnusable: A rebuild has.
    """
    if await redis.get(keys.REBUILD) is not None:
        raise _taken()


async def hand_over(redis: Redis, name: str, meta: Meta) -> None:
    """
    Write the meta, which opens the store.

    Raises:
        StoreUnusable: As `check`.
    """
    caught_up = (await runs(redis)).run_to_server
    await check(redis, name)
    # One command: readers find all fields or none.
    await redis.hset(
        keys.META.decode(),
        mapping={
            "layout": str(keys.LAYOUT),
            "bucket_bits": str(meta.bucket_bits),
            "opt_outs": str(meta.opt_outs),
            CAUGHT_UP.decode(): b" ".join(sorted(caught_up)),
        },
    )
    await redis.delete(keys.REBUILD)


def _taken() -> StoreUnusable:
    return StoreUnusable(
        "the store was emptied, or taken by another rebuild, while it was rebuilt: run"
        " `rtb-segments rebuild` again"
    )


async def _close(redis: Redis) -> None:
    await redis.execute_command("HDEL", keys.META, *_CLOSING)  # type: ignore[no-untyped-call] # redis-py


async def _unlink(redis: Redis, names: list[bytes]) -> None:
    # One key a command: a Cluster spreads them over nodes.
    async with redis.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.unlink(name)
        await pipeline.execute()
