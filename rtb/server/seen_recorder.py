"""
Remembers which ids were looked up, where `RTB_REMEMBER_SEEN` says so.

    bid path     add        a set in memory, bounded
    run          flush      once a second, in small writes; see segments.store.seen_filter

No bid waits for it: what comes too fast, or while the store can't be written, is
dropped and counted, and makes nothing worse than somebody's count too small. A worker
that ends takes its last second with it. The day is that of the flush.

`add` never raises: it is called where an exception would cost other bids their answer.
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
"""Ids of one worker between two flushes: 25 MB at most, and two seconds of the store's time."""


class SeenRecorder:
    """
    The ids that a worker has looked up since the last flush.

    Args:
        redis: A client of the worker's own, never the lookup's link.
        counters: Where it counts.
        wall_s: Unix time.
        max_pending: More ids than these are dropped.
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
        """Take the ids of one bid; part of the bid path."""
        if len(self._pending) + len(ids) > self._max_pending:
            self._counters.count_seen(SeenResult.DROPPED, len(ids))
        else:
            self._pending.update(ids)

    async def run(self) -> None:
        """Flush, for ever; ends only by being cancelled."""
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what is pending, or drop it."""
        if not self._pending:
            return
        pending, self._pending = self._pending, set()
        left, at_s = len(pending), self._wall_s()
        rest = iter(pending)
        try:
            # A store that is not ours, or not now, is not written.
            await read_meta(self._redis)
            while ids := tuple(islice(rest, IDS_PER_WRITE)):
                await remember(self._redis, ids, at_s)
                self._counters.count_seen(SeenResult.REMEMBERED, len(ids))
                left -= len(ids)
        except (RedisError, OSError, StoreUnusable, ValueError):
            # Who follows the catalog complains of the store.
            self._counters.count_seen(SeenResult.DROPPED, left)
