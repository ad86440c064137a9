"""
Carries what the near cache has counted into the counters.

The cache counts in fields of its own, which cost a bid nothing to speak of, and
begins with each worker at zero; the counters's cells go on where a dead worker
stopped. So what is carried is the difference, with each beat of the worker.
"""

import logging

from rtb.lookup.lookup import Lookup
from rtb.server.metrics.layout import CacheEvent, Gauge
from rtb.server.metrics.shared_counters import SharedCounters

_log = logging.getLogger(__name__)


class CacheMeter:
    """Of one worker; of a lookup without a cache, it shows zero."""

    def __init__(self, lookup: Lookup, counters: SharedCounters) -> None:
        self._counts = lookup.counts
        self._counters = counters
        self._shown = dict.fromkeys(CacheEvent, 0)
        self._refusal = ""

    def read(self) -> None:
        """Bring the counters up to date; side effect: logs if the store refuses to be cached."""
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
