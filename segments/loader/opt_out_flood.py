"""
Tells of a flood of opt-outs: by a metric, and by a log line once a minute at most.

All are applied nevertheless.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.errors import LEDGER_FAILURES
from segments.runtime.pauses import wait_or_stop
from segments.upkeep.opt_out_flood import FloodLimits, FloodWatch

_log = logging.getLogger(__name__)

EVERY_S = 5.0
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
        limits: FloodLimits,
    ) -> None:
        self._watch = FloodWatch(ledger, limits, now_s)
        self._show = show
        self._now_s = now_s
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
        rate = await self._watch.look()
        self._show(rate.now, rate.usual, is_flood=rate.is_flood)
        if rate.is_flood and abs(now_s - self._logged_at_s) >= _LOG_EVERY_S:
            self._logged_at_s = now_s
            _log.warning(
                "opt-outs of %d ids in a minute, usually %.1f; they are applied", rate.now,
                rate.usual,
            )  # fmt: skip
        return rate.is_flood
