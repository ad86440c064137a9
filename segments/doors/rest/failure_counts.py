"""
Failure counts shared by all replicas, in the ledger.

Each name has a leaky bucket. The process remembers full buckets, so a flood does not cost a write
each.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ledger import throttles
from segments.model.limit import Limit

_MAX_FULL = 10_000
_FORGET_EVERY_S = 60.0


class Counted(NamedTuple):
    """A name, and the limit of its count."""

    kind: str
    name: str
    limit: Limit


class FailureCounts:
    """The failure counts in a ledger."""

    def __init__(self, ledger: AsyncEngine) -> None:
        self._ledger = ledger
        self._full_until_s: dict[tuple[str, str], float] = {}
        self._forgotten_at_s = 0.0

    def wait_s(self, counted: Sequence[Counted], now_s: float) -> int:
        """Return for how many seconds the names are known to be full; 0 if unknown."""
        left_s = [self._full_until_s.get(each[:2], 0.0) - now_s for each in counted]
        # A wait longer than a drop: the clock was set back.
        return max(
            math.ceil(left) if 0 < left <= each.limit.drop_s + 1 else 0
            for left, each in zip(left_s, counted, strict=True)
        )

    async def count(self, counted: Sequence[Counted], now_s: float) -> int:
        """
        Count a failure under every name, or under none if a bucket is full.

        Returns:
            The seconds until the next may be counted; 0: counted.
        """
        wait_s = self.wait_s(counted, now_s)
        if wait_s:
            return wait_s
        try:
            async with self._ledger.begin() as conn:
                await self._forget_past(conn, now_s)
                for each in counted:
                    left_s = await throttles.count(conn, *each, now_s=now_s)
                    if left_s:
                        raise _Full(each, left_s)
        except _Full as full:
            self._note(full, now_s)
            async with self._ledger.begin() as conn:
                for each in counted:
                    await throttles.level_off(conn, *each, now_s=now_s)
            return math.ceil(full.left_s)
        return 0

    async def take_back(self, conn: AsyncConnection, counted: Sequence[Counted]) -> None:
        """Take back a failure under every name, in a transaction."""
        for each in counted:
            await throttles.take_back(conn, *each)

    def _note(self, full: "_Full", now_s: float) -> None:
        if len(self._full_until_s) >= _MAX_FULL:
            self._full_until_s = {
                key: until_s for key, until_s in self._full_until_s.items() if until_s > now_s
            }
        if len(self._full_until_s) < _MAX_FULL:
            self._full_until_s[full.counted[:2]] = now_s + full.left_s

    async def _forget_past(self, conn: AsyncConnection, now_s: float) -> None:
        if abs(now_s - self._forgotten_at_s) > _FORGET_EVERY_S:
            self._forgotten_at_s = now_s
            await throttles.forget_past(conn, now_s=now_s)


class _Full(Exception):
    """A bucket is full; rolls back this call's counts."""

    def __init__(self, counted: Counted, left_s: float) -> None:
        super().__init__(counted.kind)
        self.counted = counted
        self.left_s = left_s
