"""
The loader that refills an empty store: the holder of `seg:1:refill` (lease.lua).

The holder renews the lease, and stops once another has it: two at once would wipe each other's
writes. After a crash the lease expires.
"""

import secrets
from typing import Final

from redis.asyncio import Redis

from segments.store import keys
from segments.store.scripts import LEASE
from segments.store.servers.masters import run_script

LEASE_MS: Final = 30_000


class RefillLease:
    """The lease of an attempt."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._name = secrets.token_hex(8)

    async def keep(self) -> bool:
        """Take a free lease, or renew ours; return whether it is ours."""
        return await self._ask(LEASE_MS)

    async def give_back(self) -> None:
        """Release the lease if it is ours."""
        await self._ask(0)

    async def _ask(self, lease_ms: int) -> bool:
        return bool(await run_script(self._redis, LEASE, keys.REFILL, self._name, lease_ms))
