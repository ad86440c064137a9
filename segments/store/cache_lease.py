"""
Before a writer acknowledges: the wait for near caches.

A bid worker may keep records in process; the store notifies it when their bucket changes. That
notification may arrive after the writer's own reply, which takes another connection. So a worker
uses its near cache only under a *lease*:

    t      the worker sends any question to the store; the store replies in order, so with the
           reply the worker knows of every write before t
    s      the worker answers from its near cache only while s < t + lease

and a writer, whose change was executed at w, acknowledges no earlier than w + lease. A bid that
begins after the acknowledgement is answered from the near cache at s >= w + lease, so under a
t > s - lease >= w: the change has been seen. Only durations are compared, each by the same
machine's clock.

`seg:1:caching` says whether any worker caches, and the length of the lease. A worker sets the key
(`register_command`) before it starts caching, renews it every `REGISTER_EVERY_S`, and stops
caching `REGISTERED_S` after sending the last confirmed renewal. A writer reads the key after its
write. If the key is absent, a worker that starts caching later registers after this write, and
trusts only replies to questions sent after that. In a Cluster nothing is cached: a link leads to
a single server, whose replies prove nothing about writes to another server with the slot by now.

The key has no TTL, because `volatile-` eviction policies may delete keys with a TTL. It contains
the server's time instead, and is void after `VOID_AFTER_S`: so long because a server's clock may
be set, and because a stale key costs writers only some milliseconds a request. Of different
leases the longest stands while a worker renews it.

A loader also waits after its writes to a new run of the server, needlessly: a run is one process,
a link leads to one process, and a near cache belongs to its link.

An emptied store forgets the registrations. So it is laid out anew only after the longest lease:
see `outlived`.
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
"""Added to the registered lease: clocks that are being slewed differ by half a thousandth."""

MS_PER_S: Final = 1000

# A longer lease stands until no worker can hold it any more, and well before it is void.
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
    """Return the command by which a worker registers that it caches under such a lease."""
    return (b"EVAL", _REGISTER, b"1", key, b"%d" % (lease_ms + _SPARE_MS))


async def lease_ms(redis: "Redis", key: bytes = keys.CACHING) -> int:
    """Return how long a writer has to wait now; 0 if no worker is registered."""
    return int(await redis.eval(_READ, 1, key, VOID_AFTER_S))  # type: ignore[arg-type] # takes bytes


async def wait_out_leases(redis: "Redis") -> None:
    """
    Wait until every bid sees the writes made before this call.

    Always to be called between the last write and the acknowledgement.

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
    Wait until no near cache answers with an emptied store's data.

    Returns at once while no worker caches. A connection that the server closed at the moment of
    the emptying is not counted.
    """
    if await tell_clients(redis):
        await until(time.monotonic() + MAX_LEASE_MS / MS_PER_S)


async def until(at_s: float) -> None:
    """Wait until a moment of the monotonic clock, never less."""
    # A timer may fire early: event loops round, and cache the time.
    while (left_s := at_s - time.monotonic()) > 0:  # noqa: ASYNC110 - it is a time that is waited for
        await asyncio.sleep(left_s)
