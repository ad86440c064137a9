"""
What makes a store ours, written once and checked at every start.

`prepare` is called by whoever writes: it lays out a store that is empty, and
refuses one that would break a promise later:

    another layout             half of the fleet would read what the other can't
    memberships without meta   they lie in buckets that nobody can compute any more
    a rebuild at work          its records are not whole before its meta says so
    eviction of our keys       an opt-out could vanish when memory runs short
    limits of the listpack     too low, a person costs four times the memory
"""

import logging

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from segments.store import caching, keys
from segments.store.reader import Meta, StoreUnusable, read_meta

_log = logging.getLogger(__name__)

LISTPACK_ENTRIES = 512
LISTPACK_VALUE_BYTES = 1024

LISTPACK_LIMITS = {
    "hash-max-listpack-entries": LISTPACK_ENTRIES,
    "hash-max-listpack-value": LISTPACK_VALUE_BYTES,
}
"""What the server must be configured with, at least."""


async def prepare(redis: Redis, expected_ids: int) -> Meta:
    """
    Make the store ready for writing: lay it out if it is new, check it if not.

    Side effects: writes `seg:1:meta` into a new store; raises the server's
    listpack limits where they are too low and may be set. `expected_ids` sizes
    a new store; one that is laid out already keeps its buckets, whatever it says.

    Raises:
        StoreUnusable: The store can't be written as it is.
    """
    await check_server(redis)
    if not await redis.exists(keys.META):
        await _refuse_rebuild(redis)
        # It may have been emptied under workers that still answer from what it held.
        await caching.outlived(redis)
        await _lay_out(redis, expected_ids)
    return await read_meta(redis)


async def advance_opt_outs(redis: Redis, seq: int) -> None:
    """
    Note that the store has applied the ledger's opt-outs up to `seq`.

    Moves forward only. A store without meta is left without: the number alone
    would make it look like one that knows every opt-out.
    """
    await redis.eval(_ADVANCE, 1, keys.META, seq)


async def mark_caught_up(redis: Redis, run: bytes, opt_outs: int) -> None:
    """
    Let bids be answered from this run of the server: it has what the ledger says.

    A store that was emptied and laid out meanwhile is left alone.

    Args:
        redis: The store.
        run: As it was before the opt-outs were brought in.
        opt_outs: The least that the store's number must be.
    """
    await redis.eval(_MARK, 1, keys.META, run, opt_outs)


_MARK = """
local held = redis.call('HGET', KEYS[1], 'opt_outs')
if held and tonumber(held) >= tonumber(ARGV[2]) then
    redis.call('HSET', KEYS[1], 'caught_up', ARGV[1])
end
"""

# Compared as numbers by the store, so that two writers can't pass each other.
_ADVANCE = """
local held = redis.call('HGET', KEYS[1], 'opt_outs')
if held and tonumber(ARGV[1]) > tonumber(held) then
    redis.call('HSET', KEYS[1], 'opt_outs', ARGV[1])
end
"""


async def _lay_out(redis: Redis, expected_ids: int) -> None:
    if await redis.dbsize():
        # Someone else's keys may share the store, so look for ours.
        async for _ in redis.scan_iter(match=keys.BUCKET_PREFIX + b"*", count=10_000):
            raise StoreUnusable(
                "the store holds memberships but no seg:1:meta, which says how they are laid out:"
                " delete its seg:1:* keys and rebuild it"
            )
    # HSETNX, all in one transaction: of two processes that prepare at once the
    # first one's layout stands.
    async with redis.pipeline(transaction=True) as transaction:
        transaction.hsetnx(keys.META, "layout", str(keys.LAYOUT))
        transaction.hsetnx(keys.META, "bucket_bits", str(keys.bucket_bits_for(expected_ids)))
        transaction.hsetnx(keys.META, "opt_outs", "0")
        await transaction.execute()


async def _refuse_rebuild(redis: Redis) -> None:
    if await redis.exists(keys.REBUILD):
        raise StoreUnusable(
            "the store is being rebuilt: wait until `rtb-segments rebuild` is done, or, if that"
            " was broken off, run it again"
        )


async def check_server(redis: Redis) -> None:
    """
    Check what may change with each start of the server, whoever writes the meta.

    Raises:
        StoreUnusable: It must not be written as it is.
    """
    await _refuse_eviction(redis)
    await _ensure_listpacks(redis)


async def _refuse_eviction(redis: Redis) -> None:
    # INFO and not CONFIG, which managed stores forbid.
    memory = await redis.info("memory")
    policy = str(memory.get("maxmemory_policy", ""))
    # The `volatile-` policies evict only keys with a TTL; ours have none.
    if memory.get("maxmemory") and policy.startswith("allkeys"):
        raise StoreUnusable(
            f"the store evicts keys (maxmemory-policy {policy}), opt-outs among them:"
            " set maxmemory-policy noeviction"
        )


async def _ensure_listpacks(redis: Redis) -> None:
    missing = await _missing_limits(redis)
    if not missing:
        return
    wanted = ", ".join(f"{name} {LISTPACK_LIMITS[name]}" for name in missing)
    try:
        for name in missing:
            await redis.config_set(name, LISTPACK_LIMITS[name])
    except ResponseError:
        raise StoreUnusable(
            "the store packs hashes too loosely and does not let us change that: set"
            f" {wanted} in its configuration (Redis 7.0 or Valkey, or newer)"
        ) from None
    if await _missing_limits(redis):
        raise StoreUnusable(f"the store does not pack hashes although it was set to: {wanted}")
    _log.warning("set %s on the store until its restart; put it in its configuration", wanted)


async def _missing_limits(redis: Redis) -> list[str]:
    """
    Return the names of the limits that are too low, by trying.

    Trying works where CONFIG is forbidden, and proves what matters. The key
    lives inside a transaction only: no other client ever sees it.
    """
    async with redis.pipeline(transaction=True) as transaction:
        transaction.hset(keys.PROBE, mapping={str(n): "" for n in range(LISTPACK_ENTRIES)})
        transaction.object("ENCODING", keys.PROBE)
        transaction.delete(keys.PROBE)
        transaction.hset(keys.PROBE, "0", "x" * LISTPACK_VALUE_BYTES)
        transaction.object("ENCODING", keys.PROBE)
        transaction.delete(keys.PROBE)
        _, entries, _, _, value, _ = await transaction.execute()
    encodings = dict(zip(LISTPACK_LIMITS, (entries, value), strict=True))
    return [name for name, encoding in encodings.items() if encoding != b"listpack"]
