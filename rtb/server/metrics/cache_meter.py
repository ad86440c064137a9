"""
Copies the near cache's counts into the shared counters.

The cache counts in its own fields, almost free for a bid, from zero in each worker; shared cells
outlive workers. So each beat adds the difference.
"""

import logging

from rtb.lookup.lookup import Lookup
from rtb.server.metrics.layout import CacheEvent, Gauge
from rtb.server.metrics.shared_counters import SharedCounters

_log = logging.getLogger(__name__)


class CacheMeter:
    """A worker's meter; without a cache, its counts stay zero."""

    def __init__(self, lookup: Lookup, counters: SharedCounters) -> None:
        self._counts = lookup.counts
        self._counters = counters
        self._shown = dict.fromkeys(CacheEvent, 0)
        self._refusal = ""

    def read(self) -> None:
        """Update the counters; log if the store refuses tracking or registration."""
        for event, shown in self._shown.items():
            count = getattr(self._counts, event.value)
            self._counters.count_cache(event, count - shown)
            self._shown[event] = count
        self._counters.cells[Gauge.CACHE_ENTRIES] = self._counts.entries
        self._counters.cells[Gauge.CACHE_BYTES] = self._counts.total_bytes
        refusal = self._counts.refusal
        if refusal not in {"", self._refusal}:
            _log.warning("nothing is cached: the store does not tell of changes (%s)", refusal)
        self._refusal = refusal
