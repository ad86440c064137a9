"""
Records the ids that were looked up, if `RTB_REMEMBER_SEEN` is set.

    bid path     add        a set in memory, bounded
    run          flush      once a second, in small writes; see segments.store.seen_filter

No bid waits. Ids beyond the limit, and ids that can't be written, are dropped and counted. The last
second of a stopped worker is lost uncounted: filters may lack ids. The day is that of the flush.

`add` never raises, which would cost other bids their answer.
"""

import asyncio
import time
from collections.abc import Callable
from itertools import islice
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from rtb.server.metrics.layout import SeenResult
from rtb.server.metrics.shared_counters import SharedCounters
from segments.model.identity import Id
from segments.store.reader import StoreUnusable, read_meta
from segments.store.seen_filter import IDS_PER_WRITE, remember

FLUSH_EVERY_S: Final = 1.0
MAX_PENDING: Final = 200_000
"""A worker's ids between two flushes: 25 MB at most, and two seconds of the store's time."""


class SeenRecorder:
    """
    A worker's looked-up ids since the last flush.

    Args:
        redis: The worker's own, not the lookup's link.
        counters: The worker's.
        wall_s: Unix time.
        max_pending: Further ids are dropped.
    """

    def __init__(
        self,
        redis: Redis,
        counters: SharedCounters,
        wall_s: Callable[[], float] = time.time,
        max_pending: int = MAX_PENDING,
    ) -> None:
        self._redis = redis
        self._counters = counters
        self._wall_s = wall_s
        self._max_pending = max_pending
        self._pending: set[Id] = set()

    def add(self, ids: tuple[Id, ...]) -> None:
        """Take the ids of a bid; part of the bid path."""
        if len(self._pending) + len(ids) > self._max_pending:
            self._counters.count_seen(SeenResult.DROPPED, len(ids))
        else:
            self._pending.update(ids)

    async def run(self) -> None:
        """Flush every second until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Write the pending ids, or drop them."""
        if not self._pending:
            return
        pending, self._pending = self._pending, set()
        left, at_s = len(pending), self._wall_s()
        rest = iter(pending)
        try:
            # Never write to a foreign or unready store.
            await read_meta(self._redis)
            while ids := tuple(islice(rest, IDS_PER_WRITE)):
                await remember(self._redis, ids, at_s)
                self._counters.count_seen(SeenResult.REMEMBERED, len(ids))
                left -= len(ids)
        except (RedisError, OSError, StoreUnusable, ValueError):
            # The catalog follower reports the store's trouble.
            self._counters.count_seen(SeenResult.DROPPED, left)
