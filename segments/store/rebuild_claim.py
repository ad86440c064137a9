"""
A store that is being made anew belongs to one rebuild and to nobody else.

    take        seg:1:rebuild is set, the layout is deleted     nobody reads or writes
    wipe        everything else of ours that the ledger can bring back is deleted
    check       before each write: is it still ours?
    hand_over   the layout is written, last of all              everybody does again

What makes a store readable is the layout in its meta, so a rebuild that is killed leaves a
store that no bid is answered from, and `rtb-segments rebuild` begins it anew. Whose the store
is, and what numbers it was told, stays in the meta meanwhile.
"""

import secrets

from redis.asyncio import Redis

from segments.store import keys
from segments.store.meta import is_laid_out
from segments.store.reader import CAUGHT_UP, Meta, StoreUnusable
from segments.store.servers.masters import runs

_KEYS_AT_ONCE = 1000
_CLOSING = ("layout", "opt_outs", CAUGHT_UP)
"""Without these it is closed; how it was laid out can still be told."""

_CATALOG = (keys.AUDIENCES, keys.ACCOUNTS, keys.RECIPIENTS, keys.VERSION)


async def take(redis: Redis) -> str:
    """
    Close the store to everybody, and return the name under which it is ours.

    Whoever has read the meta a moment ago may still write, or read: give them
    a while before you `wipe`.
    """
    name = secrets.token_hex(8)
    await redis.set(keys.REBUILD, name)
    await _close(redis)
    return name


async def wipe(redis: Redis) -> None:
    """
    Delete all that the store holds for us, but for the name of the rebuild.

    And for the ids seen in bids, which no ledger knows and a bid's answer never needs.
    """
    # Once more: somebody may have laid it out who had looked before it was taken.
    await _close(redis)
    await redis.delete(keys.SWEPT)
    await redis.delete(keys.JOBS)
    await redis.delete(*_CATALOG)
    # Until none is found: a slot that moves meanwhile may pass a scan by.
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
    See that the store is still being rebuilt under this name.

    Raises:
        StoreUnusable: It is not; it was lost meanwhile, or another rebuild has taken it.
    """
    if await redis.get(keys.REBUILD) != name.encode() or await is_laid_out(redis):
        raise _taken()


async def check_open(redis: Redis) -> None:
    """
    See that no rebuild has closed the store since it was handed over.

    Raises:
        StoreUnusable: One has.
    """
    if await redis.get(keys.REBUILD) is not None:
        raise _taken()


async def hand_over(redis: Redis, name: str, meta: Meta) -> None:
    """
    Write the meta, and so open the store to everybody.

    Raises:
        StoreUnusable: As `check`.
    """
    caught_up = (await runs(redis)).run_to_server
    await check(redis, name)
    # One command: a reader finds all of it or nothing.
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
    # One key a command: in a Cluster they lie on different nodes.
    async with redis.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.unlink(name)
        await pipeline.execute()
