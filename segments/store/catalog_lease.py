"""
Before a writer acknowledges: the wait for workers' copies of the catalog.

A worker's copy is used only under a *lease*, like its near cache (`segments.store.cache_lease`):

    t    the worker asks for the store's version, and already has it
    s    the worker answers a bid that begins then from its copy only while s < t + lease
    w    a catalog that shows less is published; acknowledged at w + lease or later

So later bids use a version checked after w.

Every writer waits `DEFAULT_LEASE_MS` at least: up to that, workers need neither registration nor
write permission. A longer lease is registered in `seg:1:{catalog}:lease` (`register_command`),
which keeps the longest, is renewed, and void after an hour; earlier questions count for the default
lease.
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
