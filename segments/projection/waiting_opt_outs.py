"""
How many opt-outs are recorded and not in force: metrics for operators.

    segments_opt_outs_waiting         older than a second
    segments_opt_outs_oldest_seconds  how long the oldest has waited; 0: none waits

After some seconds, no loader runs, or the store takes no writes.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from prometheus_client import CollectorRegistry, Gauge
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.engine import reading
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.ledger.privacy import opt_outs
from segments.ledger.privacy.opt_outs import Waiting
from segments.runtime.pauses import wait_or_stop

LOOK_EVERY_S: Final = 5.0


class WaitingOptOuts:
    """Reads and reports the backlog."""

    def __init__(
        self,
        ledger: AsyncEngine,
        registry: CollectorRegistry,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._now_s = now_s
        self._count = Gauge(
            "segments_opt_outs_waiting", "Recorded and not in force.", registry=registry
        )
        self._oldest_s = Gauge(
            "segments_opt_outs_oldest_seconds", "Age of the oldest of them.", registry=registry
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Read the backlog every few seconds until told to stop."""
        while not stopping.is_set():
            with suppress(*LEDGER_FAILURES):  # readiness reports them
                await self.look()
            await wait_or_stop(stopping, LOOK_EVERY_S)

    async def look(self) -> Waiting:
        """Read the backlog once."""
        async with reading(self._ledger) as conn:
            waiting = await opt_outs.waiting(conn, self._now_s())
        self._count.set(waiting.requests)
        self._oldest_s.set(waiting.oldest_s)
        return waiting

    async def backlog(self) -> Mapping[str, float]:
        """Return the backlog for `/health/ready`; empty while the ledger can't be read."""
        try:
            waiting = await self.look()
        except LEDGER_FAILURES:
            return {}
        return {"opt_outs_waiting": waiting.requests, "oldest_s": round(waiting.oldest_s, 1)}
