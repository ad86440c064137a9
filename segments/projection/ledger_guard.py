"""
A process that only the ledger is needed for keeps asking whether that is still the store's.

A ledger can be put in another's place, or set back to an older copy, while processes
run upon it. The loader finds out with each look at the store; who seldom asks the store,
a door, has this beside it, and takes nothing in while it refuses. A store that is away
changes nothing: what comes in meanwhile is kept for it.
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
    """Tells whether the ledger may be written to, by what the store said last."""

    def __init__(self, ledger: AsyncEngine, redis: Redis) -> None:
        self._ledger = ledger
        self._redis = redis
        self._reason = ""

    def reasons(self) -> list[str]:
        """Tell why nothing may be taken in, if nothing may: which ledger, or how far behind."""
        return [self._reason] if self._reason else []

    async def start(self) -> None:
        """
        Look for the first time.

        Raises:
            OtherLedger, LedgerBehind: It must not be written to.
        """
        await self._look()

    async def run(self, stopping: asyncio.Event) -> None:
        """Look again and again, until told to stop."""
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
