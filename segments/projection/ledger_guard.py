"""
Keeps checking, in a process of the ledger alone, that the ledger is the store's.

A ledger in use can be replaced, or restored from an older copy. A door, which seldom asks the
store, runs this guard and accepts nothing while it objects. An unreachable store changes nothing.
"""

import asyncio

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.errors import LEDGER_FAILURES
from segments.projection.one_ledger import OtherLedger, refuse_other
from segments.runtime.pauses import wait_or_stop
from segments.store.reader import LedgerBehind, StoreUnusable

_EVERY_S = 1.0


class LedgerGuard:
    """Tells whether the ledger may be written to, by the store's last answer."""

    def __init__(self, ledger: AsyncEngine, redis: Redis) -> None:
        self._ledger = ledger
        self._redis = redis
        self._reason = ""

    def reasons(self) -> list[str]:
        """Return why nothing may be accepted, if so: the ledger, or its lag."""
        return [self._reason] if self._reason else []

    async def start(self) -> None:
        """
        Check for the first time.

        Raises:
            OtherLedger, LedgerBehind: The ledger must not be written to.
        """
        await self._look()

    async def run(self, stopping: asyncio.Event) -> None:
        """Check again and again until told to stop."""
        while not stopping.is_set():
            try:
                await self._look()
            except (OtherLedger, LedgerBehind) as refused:
                self._reason = str(refused)
            await wait_or_stop(stopping, _EVERY_S)

    async def _look(self) -> None:
        try:
            await refuse_other(self._ledger, self._redis)
        except (OtherLedger, LedgerBehind):
            raise
        except (RedisError, StoreUnusable, *LEDGER_FAILURES):
            return
        self._reason = ""
