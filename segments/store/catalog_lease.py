"""
Before a writer acknowledges: the wait for workers' copies of the catalog.

A worker keeps the catalog in process, and uses it only under a *lease*, like its near cache
(`segments.store.cache_lease` has the argument):

    t    the worker asks for the store's version, and already has it
    s    the worker answers a bid that begins then from its copy only while s < t + lease
    w    a catalog that shows less is published; acknowledged at w + lease or later

So a bid that begins after the acknowledgement uses a version that was checked after w. Only
durations are compared, each by the same machine's monotonic clock.

Every writer waits `DEFAULT_LEASE_MS` at least, so a worker with no longer lease need not
register, and needs no write permission. A longer lease is valid only once registered in
`seg:1:{catalog}:lease` (`register_command`), which keeps the longest of all workers; like the
near cache's registration it is renewed, and void after an hour. Questions from before the
registration was confirmed count for the default lease only.
"""

import time
from typing import TYPE_CHECKING, Final

from segments.store.cache_lease import MS_PER_S, lease_ms, until
from segments.store.keys import CATALOG_LEASE

if TYPE_CHECKING:
    from redis.asyncio import Redis

DEFAULT_LEASE_MS: Final = 1000
MAX_LEASE_MS: Final = 60_000


async def wait_out_catalog_leases(redis: "Redis") -> None:
    """
    Wait until no bid uses a catalog older than the version published before this call.

    Raises:
        redis.exceptions.RedisError: The lease is unknown; nothing may be acknowledged.
    """
    began_s = time.monotonic()
    longest_ms = max(DEFAULT_LEASE_MS, await lease_ms(redis, CATALOG_LEASE))
    await until(began_s + longest_ms / MS_PER_S)
