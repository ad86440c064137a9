"""
Notices when far more opt-outs come than usual: somebody's mistake, or somebody's malice.

    flood   more ids in the last minute than SEGMENTS_FLOOD_IDS_PER_MINUTE, and than
            SEGMENTS_FLOOD_FACTOR times a minute's share of the day before

They are applied all the same: a no is a no, however many say it. What a flood
raises is a metric, and a line in the log at most once a minute. Both look at
the ledger, so whatever door the requests came by, and whichever replica took
them, they are counted once; and a restart forgets nothing.
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
"""How long a count of the day before is good: it reads every id of that day."""

_LOG_EVERY_S = 60.0


class Show(Protocol):
    """Shows the rates, in ids a minute."""

    def __call__(self, per_minute: float, usual: float, *, is_flood: bool) -> None:
        """Take notice."""


class FloodAlarm:
    """Looks at the ledger, and tells."""

    def __init__(
        self,
        ledger: AsyncEngine,
        show: Show,
        now_s: Callable[[], float] = time.time,
        *,
        factor: float,
        ids_per_minute: int,
    ) -> None:
        """
        Args:
            ledger: Where the opt-outs are counted.
            show: Is told the rates.
            now_s: The time.
            factor: How many times the usual rate is a flood.
            ids_per_minute: The least rate that is one.
        """
        self._factor = factor
        self._ids_per_minute = ids_per_minute
        self._ledger = ledger
        self._show = show
        self._now_s = now_s
        self._usual = 0.0
        self._usual_at_s = -inf
        self._logged_at_s = -inf

    async def run(self, stopping: asyncio.Event) -> None:
        """Look every few seconds until told to stop."""
        while not stopping.is_set():
            with suppress(*LEDGER_FAILURES):  # of which the loader tells
                await self.look()
            await wait_or_stop(stopping, EVERY_S)

    async def look(self) -> bool:
        """Look once, and return whether there is a flood."""
        now_s = self._now_s()
        async with reading(self._ledger) as conn:
            begins_s = now_s - MINUTE_S
            # To the end of time: of several clocks, one may be ahead.
            per_minute = await opt_outs.count_ids(conn, begins_s, inf)
            if now_s - self._usual_at_s >= _USUAL_EVERY_S:
                of_day = await opt_outs.count_ids(conn, begins_s - S_PER_DAY, begins_s)
                self._usual, self._usual_at_s = of_day * MINUTE_S / S_PER_DAY, now_s
        limit = max(self._ids_per_minute, self._factor * self._usual)
        is_flood = per_minute > limit
        self._show(per_minute, self._usual, is_flood=is_flood)
        if is_flood and now_s - self._logged_at_s >= _LOG_EVERY_S:
            self._logged_at_s = now_s
            _log.warning(
                "opt-outs of %d ids in a minute, usually %.1f; they are applied", per_minute,
                self._usual,
            )  # fmt: skip
        return is_flood
