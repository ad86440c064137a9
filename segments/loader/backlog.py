"""
How much work waits, by the ledger: metrics for alarms.

    segments_ledger_jobs{state}   jobs in this state, of all loaders and of `rtb-segments load`
    segments_jobs_oldest_seconds  age of the queued job that has waited longest; 0: none waits
    segments_scrub_seconds_left   until the deadline of the file that is first due for a scrub;
                                  SEGMENTS_SCRUB_WITHIN_H in seconds if none is due

All loaders report the same ledger: take the maximum, never the sum.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from prometheus_client import CollectorRegistry, Gauge
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import backlog
from segments.ledger.database.engine import reading
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.runtime.pauses import wait_or_stop

LOOK_EVERY_S: Final = 15.0


class Backlog:
    """Measures the work that waits."""

    def __init__(
        self,
        ledger: AsyncEngine,
        registry: CollectorRegistry,
        now_s: Callable[[], float],
        scrub_within_s: float,
    ) -> None:
        self._ledger = ledger
        self._now_s = now_s
        self._scrub_within_s = scrub_within_s
        self._jobs = Gauge("segments_ledger_jobs", "Jobs by state.", ["state"], registry=registry)
        self._oldest_s = Gauge(
            "segments_jobs_oldest_seconds", "Age of the oldest queued job.", registry=registry
        )
        self._scrub_left_s = Gauge(
            "segments_scrub_seconds_left", "Until the first deadline of a scrub.", registry=registry
        )
        self._scrub_left_s.set(scrub_within_s)

    async def run(self, stopping: asyncio.Event) -> None:
        """Look every few seconds until stopped."""
        while not stopping.is_set():
            with suppress(*LEDGER_FAILURES):  # readiness reports these
                await self.look()
            await wait_or_stop(stopping, LOOK_EVERY_S)

    async def look(self) -> None:
        """Measure once."""
        async with reading(self._ledger) as conn:
            jobs = await backlog.job_counts(conn)
            unscrubbed_since_s = await backlog.longest_unscrubbed_since_s(conn)
        now_s = self._now_s()
        for state, count in jobs.by_state.items():
            self._jobs.labels(state.value).set(count)
        oldest_at_s = now_s if jobs.oldest_queued_at_s is None else jobs.oldest_queued_at_s
        self._oldest_s.set(max(0.0, now_s - oldest_at_s))
        due_since_s = now_s if unscrubbed_since_s is None else min(now_s, unscrubbed_since_s)
        self._scrub_left_s.set(due_since_s + self._scrub_within_s - now_s)
