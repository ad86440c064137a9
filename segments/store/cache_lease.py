"""
Before a writer acknowledges: the wait for near caches.

The store notifies a bid worker when the bucket of a kept record changes, perhaps after the writer
has its reply on another connection. So a near cache is used only under a *lease*:

    t      a worker's question to the store; replies come in order, and show every write before t
    s      the worker answers from its near cache only while s < t + lease
    w      a writer's change is executed; acknowledged at w + lease or later

A later bid is answered from the near cache at s >= w + lease, so under a t > s - lease >= w: the
worker has seen the change. Only durations by one machine's clock are compared.

`seg:1:caching` holds the lease's length while any worker caches. A worker sets the key before it
caches, renews it every `REGISTER_EVERY_S`, and stops caching `REGISTERED_S` after the last
confirmed renewal. A writer reads the key after its write. If the key is absent, later workers
register after this write, and trust only replies to later questions. In a Cluster nothing is
cached: a link's replies prove nothing about writes to another server that has the slot by now.

`volatile-` eviction policies delete keys with a TTL, so the key has none. By the server's time in
its value, it is void after `VOID_AFTER_S`: long, because clocks may be set, and a stale key costs
writers only milliseconds a request. The longest lease stands while renewed.
"""

import asyncio
import time
from typing import TYPE_CHECKING, Final

from segments.store import keys
from segments.store.servers.masters import tell_clients

if TYPE_CHECKING:
    from redis.asyncio import Redis

REGISTER_EVERY_S: Final = 15.0
REGISTERED_S: Final = 60.0
VOID_AFTER_S: Final = 3600

MAX_LEASE_MS: Final = 1000

_SPARE_MS: Final = 1
"""Slewed clocks differ by half a thousandth."""

MS_PER_S: Final = 1000

# A longer lease stands until no worker can hold it.
_REGISTER: Final = b"""
local now = tonumber(redis.call('TIME')[1])
local held = redis.call('GET', KEYS[1])
if held then
    local lease, at = string.match(held, '^(%d+) (%d+)$')
    if lease and tonumber(lease) > tonumber(ARGV[1]) and now - tonumber(at) < 600 then
        return tonumber(lease)
    end
end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. string.format('%d', now))
return tonumber(ARGV[1])
"""

_READ: Final = b"""
local held = redis.call('GET', KEYS[1])
if not held then
    return 0
end
local lease, at = string.match(held, '^(%d+) (%d+)$')
if tonumber(redis.call('TIME')[1]) - tonumber(at) > tonumber(ARGV[1]) then
    return 0
end
return tonumber(lease)
"""


def register_command(lease_ms: int, key: bytes = keys.CACHING) -> tuple[bytes, ...]:
    """Return the command that registers a caching worker."""
    return (b"EVAL", _REGISTER, b"1", key, b"%d" % (lease_ms + _SPARE_MS))


async def lease_ms(redis: "Redis", key: bytes = keys.CACHING) -> int:
    """Return how long a writer must wait; 0: no worker is registered."""
    return int(await redis.eval(_READ, 1, key, VOID_AFTER_S))  # type: ignore[arg-type] # takes bytes


async def wait_out_leases(redis: "Redis") -> None:
    """
    Wait until every bid sees the writes made so far; acknowledge only then.

    Raises:
        redis.exceptions.RedisError: The lease is unknown; nothing may be acknowledged.
    """
    began_s = time.monotonic()
    left_s = await lease_ms(redis) / MS_PER_S
    if left_s:
        # The write was executed before `began_s`.
        await until(began_s + left_s)


async def outlived(redis: "Redis") -> None:
    """
    Wait until no near cache answers with an emptied store's data, before a new layout.

    Does not count connections that the emptying closed.
    """
    if await tell_clients(redis):
        await until(time.monotonic() + MAX_LEASE_MS / MS_PER_S)


async def until(at_s: float) -> None:
    """Wait until a moment of the monotonic clock, never less."""
    # A timer may fire early: event loops round and cache time.
    while (left_s := at_s - time.monotonic()) > 0:  # noqa: ASYNC110 - it is a time that is waited for
        await asyncio.sleep(left_s)
