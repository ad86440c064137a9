"""
Detects a flood of opt-outs, caused by mistake or by malice.

    flood   more ids in the last minute than SEGMENTS_FLOOD_IDS_PER_MINUTE, and than
            SEGMENTS_FLOOD_FACTOR times a minute's share of the day before

All are applied nevertheless. A flood raises a metric, and logs a line once a minute at most. The
ledger counts for all doors and replicas, across restarts.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.engine import reading
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.ledger.privacy import opt_outs
from segments.model.day import S_PER_DAY
from segments.runtime.pauses import wait_or_stop

_log = logging.getLogger(__name__)

EVERY_S = 5.0
MINUTE_S = 60.0
_USUAL_EVERY_S = 600.0
"""A count of the day before reads every id of that day."""

_LOG_EVERY_S = 60.0


class Show(Protocol):
    """Shows the rates, in ids a minute."""

    def __call__(self, per_minute: float, usual: float, *, is_flood: bool) -> None:
        """Show them."""


class FloodAlarm:
    """Watches the ledger for floods."""

    def __init__(
        self,
        ledger: AsyncEngine,
        show: Show,
        now_s: Callable[[], float] = time.time,
        *,
        factor: float,
        ids_per_minute: int,
    ) -> None:
        """A flood exceeds `ids_per_minute`, and the usual rate `factor` times."""
        self._factor = factor
        self._ids_per_minute = ids_per_minute
        self._ledger = ledger
        self._show = show
        self._now_s = now_s
        self._usual = 0.0
        self._usual_at_s = -inf
        self._logged_at_s = -inf

    async def run(self, stopping: asyncio.Event) -> None:
        """Look every few seconds until stopped."""
        while not stopping.is_set():
            with suppress(*LEDGER_FAILURES):  # the loader reports these
                await self.look()
            await wait_or_stop(stopping, EVERY_S)

    async def look(self) -> bool:
        """Look once, and return whether there is a flood."""
        now_s = self._now_s()
        async with reading(self._ledger) as conn:
            begins_s = now_s - MINUTE_S
            # Another machine's clock may be ahead.
            per_minute = await opt_outs.count_ids(conn, begins_s, inf)
            if abs(now_s - self._usual_at_s) >= _USUAL_EVERY_S:
                of_day = await opt_outs.count_ids(conn, begins_s - S_PER_DAY, begins_s)
                self._usual, self._usual_at_s = of_day * MINUTE_S / S_PER_DAY, now_s
        limit = max(self._ids_per_minute, self._factor * self._usual)
        is_flood = per_minute > limit
        self._show(per_minute, self._usual, is_flood=is_flood)
        if is_flood and abs(now_s - self._logged_at_s) >= _LOG_EVERY_S:
            self._logged_at_s = now_s
            _log.warning(
                "opt-outs of %d ids in a minute, usually %.1f; they are applied", per_minute,
                self._usual,
            )  # fmt: skip
        return is_flood
