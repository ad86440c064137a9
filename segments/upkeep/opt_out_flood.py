"""
The rate of opt-outs, and whether it is a flood, caused by mistake or by malice.

    flood   more ids in the last minute than SEGMENTS_FLOOD_IDS_PER_MINUTE, and than
            SEGMENTS_FLOOD_FACTOR times a minute's share of the day before

The ledger counts for all doors and replicas, across restarts.
"""

from collections.abc import Callable
from math import inf
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.engine import reading
from segments.ledger.privacy import opt_outs
from segments.model.day import S_PER_DAY

_MINUTE_S = 60.0
_USUAL_EVERY_S = 600.0
"""A count of the day before reads every id of that day."""


class FloodLimits(NamedTuple):
    """A flood exceeds `ids_per_minute`, and the usual rate `factor` times."""

    factor: float
    ids_per_minute: int


class OptOutRate(NamedTuple):
    """Rates of opt-outs, in ids a minute."""

    now: float  # in the last minute
    usual: float
    limit: float

    @property
    def is_flood(self) -> bool:
        """Whether far more opt-outs arrive than usual."""
        return self.now > self.limit


class FloodWatch:
    """Reads the rate from the ledger."""

    def __init__(
        self, ledger: AsyncEngine, limits: FloodLimits, now_s: Callable[[], float]
    ) -> None:
        self._ledger = ledger
        self._limits = limits
        self._now_s = now_s
        self._usual = 0.0
        self._usual_at_s = -inf

    async def look(self) -> OptOutRate:
        """Return the present rate."""
        now_s = self._now_s()
        async with reading(self._ledger) as conn:
            begins_s = now_s - _MINUTE_S
            # Another machine's clock may be ahead.
            per_minute = await opt_outs.count_ids(conn, begins_s, inf)
            if abs(now_s - self._usual_at_s) >= _USUAL_EVERY_S:
                of_day = await opt_outs.count_ids(conn, begins_s - S_PER_DAY, begins_s)
                self._usual, self._usual_at_s = of_day * _MINUTE_S / S_PER_DAY, now_s
        limit = max(self._limits.ids_per_minute, self._limits.factor * self._usual)
        return OptOutRate(per_minute, self._usual, limit)
