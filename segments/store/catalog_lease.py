"""
What a writer owes those who show by the catalog: the wait before it acknowledges.

A worker keeps the catalog in process. It uses it only under a *lease*, as it does what it
keeps of records (`segments.store.cache_lease` has the argument):

    t    the worker asks which version the store shows; it is the one that it has
    s    a bid that begins then is answered by it only while s < t + lease
    w    a catalog that shows less is published; acknowledged at w + lease or later

So a bid that begins after the acknowledgement is answered by what was asked for behind w.
Only durations are compared, each by one machine's own monotonic clock.

Every writer waits `DEFAULT_LEASE_MS` at least, so a worker whose lease is no longer need
tell nobody, and may be one that can't write. A longer one is good only once it stands in
`seg:1:{catalog}:lease` (`register_command`), which the longest of all workers keeps; like
the near cache's registration it is renewed, and void after an hour. What a worker asked
before its registration was confirmed counts for no more than the default.
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
    Wait until a catalog that was published before this call is every bid's.

    Raises:
        redis.exceptions.RedisError: It can't be told; nothing may be acknowledged.
    """
    began_s = time.monotonic()
    longest_ms = max(DEFAULT_LEASE_MS, await lease_ms(redis, CATALOG_LEASE))
    await until(began_s + longest_ms / MS_PER_S)
