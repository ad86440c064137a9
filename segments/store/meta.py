"""
The meta, which makes a store ours: written once, checked at every start.

Writers call `prepare`, which lays out an empty store, and refuses:

    another layout             half of the fleet would read what the other half can't
    memberships without meta   their buckets can't be computed any more
    a rebuild at work          records are incomplete until the rebuild writes the meta
    eviction of our keys       an opt-out could vanish when memory runs short
    limits of the listpack     if too low, a person costs four times the memory
"""

import logging
from collections.abc import Iterable
from typing import NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from segments.store import cache_lease, keys
from segments.store.reader import (
    META_COMMAND,
    LedgerBehind,
    Meta,
    StoreUnusable,
    parse_meta,
    read_meta,
    read_meta_of_any,
)
from segments.store.servers.masters import Server, is_cluster, masters, parse_info

_log = logging.getLogger(__name__)

LISTPACK_ENTRIES = 512
LISTPACK_VALUE_BYTES = 1024

LISTPACK_LIMITS = {
    "hash-max-listpack-entries": LISTPACK_ENTRIES,
    "hash-max-listpack-value": LISTPACK_VALUE_BYTES,
}
"""The server's lowest settings."""


async def prepare(redis: Redis, expected_ids: int) -> Meta:
    """
    Lay the store out if it is new, otherwise check it.

    Side effects: sizes a new store by `expected_ids`; raises low listpack limits, if allowed.

    Raises:
        StoreUnusable: The store can't be written in its state.
    """
    await check_server(redis)
    if not await is_laid_out(redis):
        await _refuse_rebuild(redis)
        # Workers may still use near caches of an emptied store.
        await cache_lease.outlived(redis)
        await _lay_out(redis, expected_ids)
    return await read_meta_of_any(redis)


async def is_laid_out(redis: Redis) -> bool:
    """Tell whether the store has a layout: not under rebuild."""
    return bool(await redis.execute_command("HEXISTS", keys.META, "layout"))  # type: ignore[no-untyped-call] # redis-py


async def take(redis: Redis, ledger_id: str, *, holds_anything: bool) -> None:
    """Make the store this ledger's, unless taken; a filled ledger may replace an empty one."""
    await redis.eval(_TAKE, 1, keys.META, ledger_id, int(holds_anything))


async def give(redis: Redis, ledger_id: str, *, taken_from: str) -> bool:
    """Make the store this ledger's if still `taken_from`'s; tell whether it was."""
    return bool(await redis.eval(_GIVE, 1, keys.META, ledger_id, taken_from))


async def mark_behind(redis: Redis, behind: str) -> None:
    """Block all reads and writes: the ledger is so far behind."""
    await redis.execute_command("HSET", keys.META, "behind", behind)  # type: ignore[no-untyped-call] # redis-py


async def unmark_behind(redis: Redis) -> None:
    """Allow reads and writes again."""
    await redis.execute_command("HDEL", keys.META, "behind")  # type: ignore[no-untyped-call] # redis-py


async def mark_filled(redis: Redis) -> None:
    """Note that everything from before the layout is restored."""
    await redis.execute_command("HDEL", keys.META, "unfilled")  # type: ignore[no-untyped-call] # redis-py


async def mark_unfilled(redis: Redis) -> None:
    """Note that data was lost; without effect on a closed store."""
    await redis.eval(_MARK_UNFILLED, 1, keys.META)


_MARK_UNFILLED = """
if redis.call('HEXISTS', KEYS[1], 'layout') == 1 then
    redis.call('HSET', KEYS[1], 'unfilled', '1')
end
"""


class Told(NamedTuple):
    """The ledger's numbers that the store is about to use; 0: none."""

    audience: int = 0
    """The highest."""
    opt_out: int = 0
    """Likewise."""
    opt_out_of: str = ""
    """The opt-out's transaction id."""
    revision: int = 0
    """Of the catalog; covers all audiences."""
    revision_name: str = ""
    """Its name in the ledger."""


async def tell(redis: Redis, meta: Meta, told: Told) -> None:
    """
    Raise the store's highest known numbers; layout and ledger must still match `meta`.

    Raises:
        StoreUnusable: Layout or ledger has changed.
        LedgerBehind: The store is marked so.
    """
    now = await read_meta(redis)
    whose = now.whose
    if (
        told.audience > whose.last_audience
        or told.opt_out > whose.last_opt_out
        or told.revision > whose.last_revision
    ):
        expected = meta.bucket_bits, meta.whose.ledger_id
        now = parse_meta(await redis.eval(_TELL, 1, keys.META, *expected, *told))
        if now.whose.behind:
            raise LedgerBehind(now.whose.behind)
    if (now.bucket_bits, now.whose.ledger_id) != (meta.bucket_bits, meta.whose.ledger_id):
        raise StoreUnusable("the store was laid out anew under this process: start again")


async def tell_closed(redis: Redis, told: Told) -> None:
    """Like `tell`, by the process that rebuilds the store."""
    await redis.eval(_TELL_CLOSED, 1, keys.META, *told)


async def advance_opt_outs(redis: Redis, seq: int, *, behind: int) -> None:
    """
    Note that the store has applied the ledger's opt-outs up to `seq`; never moves backward.

    A store without meta stays so: the number alone would claim every opt-out. `behind` is the
    opt-out before the first applied now; a lower number, as after a failover, stays.
    """
    await redis.eval(_ADVANCE, 1, keys.META, seq, behind)


async def mark_caught_up(redis: Redis, runs: Iterable[bytes], opt_outs: int) -> None:
    """
    Let only these servers' runs, from before the opt-outs, answer bids.

    Without effect on a new layout, or if the store's number is below `opt_outs`.
    """
    await redis.eval(_MARK, 1, keys.META, b" ".join(sorted(runs)), opt_outs)


_MARK = """
local held = redis.call('HGET', KEYS[1], 'opt_outs')
if held and tonumber(held) >= tonumber(ARGV[2]) then
    redis.call('HSET', KEYS[1], 'caught_up', ARGV[1])
end
"""

# Compared in the store: writers can't overtake each other.
_ADVANCE = """
local held = redis.call('HGET', KEYS[1], 'opt_outs')
if held and tonumber(ARGV[1]) > tonumber(held) and tonumber(held) >= tonumber(ARGV[2]) then
    redis.call('HSET', KEYS[1], 'opt_outs', ARGV[1])
end
"""


_FIELDS_TOLD = """
local told = {'last_audience', 'last_opt_out', 'last_opt_out_of', 'last_revision',
    'last_revision_name'}
"""

_TAKE = (
    _FIELDS_TOLD
    + """
local held, of_empty = unpack(redis.call('HMGET', KEYS[1], 'ledger', 'of_empty_ledger'))
if held and held ~= ARGV[1] and not (of_empty and ARGV[2] == '1') then
    return 0
end
if held ~= ARGV[1] then redis.call('HDEL', KEYS[1], unpack(told)) end
redis.call('HSET', KEYS[1], 'ledger', ARGV[1])
if ARGV[2] == '1' then
    redis.call('HDEL', KEYS[1], 'of_empty_ledger')
else
    redis.call('HSET', KEYS[1], 'of_empty_ledger', '1')
end
return 1
"""
)

_GIVE = (
    _FIELDS_TOLD
    + """
if (redis.call('HGET', KEYS[1], 'ledger') or '') ~= ARGV[2] then
    return 0
end
redis.call('HSET', KEYS[1], 'ledger', ARGV[1])
redis.call('HDEL', KEYS[1], 'of_empty_ledger', 'behind', unpack(told))
return 1
"""
)

_RAISE = """
local function raise(field, number, named, name)
    if tonumber(number) > tonumber(redis.call('HGET', KEYS[1], field) or '0') then
        redis.call('HSET', KEYS[1], field, number)
        if named then redis.call('HSET', KEYS[1], named, name) end
    end
end
local function raise_all(at)
    raise('last_audience', ARGV[at])
    raise('last_opt_out', ARGV[at + 1], 'last_opt_out_of', ARGV[at + 2])
    raise('last_revision', ARGV[at + 3], 'last_revision_name', ARGV[at + 4])
end
"""

# Raises nothing for another ledger, an old copy, or a new layout.
_TELL = (
    _RAISE
    + """
local bits, ledger, behind = unpack(redis.call('HMGET', KEYS[1], 'bucket_bits', 'ledger', 'behind'))
if bits == ARGV[1] and (ledger or '') == ARGV[2] and not behind then
    raise_all(3)
end
return redis.call('HMGET', KEYS[1], """
    + ", ".join(f"'{field.decode()}'" for field in META_COMMAND[2:])
    + ")"
)

_TELL_CLOSED = _RAISE + "raise_all(1)"

# Atomic: of two at once, the first layout stands.
_LAY_OUT = """
if redis.call('HEXISTS', KEYS[1], 'layout') == 0 then
    redis.call('HSET', KEYS[1], 'layout', ARGV[1], 'bucket_bits', ARGV[2], 'opt_outs', '0',
        'unfilled', '1')
end
"""


async def _lay_out(redis: Redis, expected_ids: int) -> None:
    if await redis.dbsize():
        # Foreign keys may share the store.
        async for _ in redis.scan_iter(match=keys.BUCKET_PREFIX + b"*", count=10_000):
            raise StoreUnusable(
                "the store holds memberships but no seg:1:meta, which says how they are laid out:"
                " delete its seg:1:* keys and rebuild it"
            )
    await redis.eval(_LAY_OUT, 1, keys.META, keys.LAYOUT, keys.bucket_bits_for(expected_ids))


async def _refuse_rebuild(redis: Redis) -> None:
    if await redis.exists(keys.REBUILD):
        raise StoreUnusable(
            "the store is being rebuilt: wait until `rtb-segments rebuild` is done, or, if that"
            " was broken off, run it again"
        )


async def check_server(redis: Redis) -> None:
    """
    Check settings that each start of the server may change.

    Raises:
        StoreUnusable: A setting forbids writing.
    """
    for server in await masters(redis):
        try:
            await _refuse_eviction(server)
            await _ensure_listpacks(server)
        except _AWAY:
            if not is_cluster(redis):
                raise
            # Other nodes work without it.


async def _refuse_eviction(server: Server) -> None:
    # INFO rather than CONFIG, which managed stores forbid.
    memory = parse_info(await server.execute(b"INFO", b"memory"))
    policy = memory.get("maxmemory_policy", "")
    # `volatile-` policies evict only keys with a TTL; ours have none.
    if memory.get("maxmemory", "0") != "0" and policy.startswith("allkeys"):
        raise StoreUnusable(
            f"the store evicts keys (maxmemory-policy {policy}), opt-outs among them:"
            " set maxmemory-policy noeviction"
        )


async def _ensure_listpacks(server: Server) -> None:
    missing = await _missing_limits(server)
    if not missing:
        return
    wanted = ", ".join(f"{name} {LISTPACK_LIMITS[name]}" for name in missing)
    try:
        for name in missing:
            await server.execute("CONFIG SET", name, LISTPACK_LIMITS[name])
    except ResponseError:
        raise StoreUnusable(
            "the store packs hashes too loosely and does not let us change that: set"
            f" {wanted} in its configuration (Redis 7.0 or Valkey, or newer)"
        ) from None
    if await _missing_limits(server):
        raise StoreUnusable(f"the store does not pack hashes although it was set to: {wanted}")
    _log.warning("set %s on the store until its restart; put it in its configuration", wanted)


async def _missing_limits(server: Server) -> list[str]:
    """
    Return the limits that are too low, by trial: CONFIG may be forbidden.
    """
    if not server.slots:
        return []  # a node without slots refuses every key
    key = server.key(keys.PROBE)
    encodings = await server.execute("EVAL", _TRY, 1, key, LISTPACK_ENTRIES, LISTPACK_VALUE_BYTES)
    named = dict(zip(LISTPACK_LIMITS, encodings, strict=True))
    return [name for name, encoding in named.items() if encoding != b"listpack"]


_TRY = """
local fields = {}
for n = 1, tonumber(ARGV[1]) do
    fields[2 * n - 1], fields[2 * n] = tostring(n), ''
end
redis.call('HSET', KEYS[1], unpack(fields))
local entries = redis.call('OBJECT', 'ENCODING', KEYS[1])
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], '0', string.rep('x', tonumber(ARGV[2])))
local value = redis.call('OBJECT', 'ENCODING', KEYS[1])
redis.call('DEL', KEYS[1])
return {entries, value}
"""

_AWAY = (RedisConnectionError, RedisTimeoutError, OSError)
