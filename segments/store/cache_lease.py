"""
What a writer owes those who cache records: the wait before it acknowledges.

A bid worker may keep records in process and is told by the store when their
bucket changes. The store tells the writer that it has written, and the worker
that something has changed, over different connections: the writer may hear of
it first. So a worker answers from what it keeps only under a *lease*:

    t      it asks the store anything, and has the answer: whatever was written
           before t, it has been told of, for the store tells in order
    s      it answers from what it keeps only while s < t + lease

and a writer, whose change was executed at w, acknowledges no earlier than
w + lease. A bid that begins after the acknowledgement is answered from what is
kept at s >= w + lease, so under a t > s - lease >= w: the change has been seen.
Only durations are compared, each by one machine's own clock.

`seg:1:caching` says whether anybody caches, and how long the lease is. A worker
sets it (`register_command`) before it begins, sets it anew every
`REGISTER_EVERY_S`, and stops `REGISTERED_S` after it sent the last one that was
heard. A writer looks at it after it has written. If the key is absent, a worker that
starts caching later registers after this write, and trusts only replies to questions
sent after that. Nothing of a Cluster is cached: a link is to one of many servers there,
and an answer of one proves nothing of a write to another, to which the slot has moved.

The key has no TTL, which `volatile-` policies of eviction take for a permit to
delete it. It holds the server's time instead, and is void after `VOID_AFTER_S`;
so long, because a server's clock may be set, and because all that a writer loses
by a stale one is some milliseconds a request. With leases of different length at
once the longest stands for as long as somebody sets it.

What a loader brings in before bids may be answered from a new run of the server
is waited for as well, and need not be: a run is one process of the server, a link
leads to one process, and what a worker keeps belongs to its link.

A store that is emptied forgets who caches. So it is not laid out anew before
the longest lease is over: see `outlived`.
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
"""Added to what is registered: clocks that are being slewed differ by half a thousandth."""

MS_PER_S: Final = 1000

# A longer lease stands until nobody can hold it any more, and well before it is void.
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
    """Make the command by which a worker says that it keeps things under such a lease."""
    return (b"EVAL", _REGISTER, b"1", key, b"%d" % (lease_ms + _SPARE_MS))


async def lease_ms(redis: "Redis", key: bytes = keys.CACHING) -> int:
    """Return how long a writer has to wait now; 0 if nobody is registered."""
    return int(await redis.eval(_READ, 1, key, VOID_AFTER_S))  # type: ignore[arg-type] # takes bytes


async def wait_out_leases(redis: "Redis") -> None:
    """
    Wait until what was written before this call is seen by every bid.

    To be called between the last write and the acknowledgement, always.

    Raises:
        redis.exceptions.RedisError: It can't be told; nothing may be acknowledged.
    """
    began_s = time.monotonic()
    left_s = await lease_ms(redis) / MS_PER_S
    if left_s:
        # The write was executed before we began.
        await until(began_s + left_s)


async def outlived(redis: "Redis") -> None:
    """
    Wait until nobody answers from what an emptied store has held.

    Costs nothing while nobody caches. A connection that the server has ended
    within the same moment as it was emptied is not counted.
    """
    if await tell_clients(redis):
        await until(time.monotonic() + MAX_LEASE_MS / MS_PER_S)


async def until(at_s: float) -> None:
    """Wait until a moment of the monotonic clock, and no less."""
    # A timer may come a moment early: event loops round, and remember the time.
    while (left_s := at_s - time.monotonic()) > 0:  # noqa: ASYNC110 - it is a time that is waited for
        await asyncio.sleep(left_s)
