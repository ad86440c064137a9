"""
Leaky buckets by name, in this process's memory.

A bucket leaks at a fixed rate; a full bucket refuses until a drop has leaked. Their number is
bounded; empty ones are dropped first. `failure_counts` and `rate_limit` count for all replicas.
"""

import math
from collections.abc import Callable

from segments.model.limit import Limit


class Throttle:
    """Counts failures by name."""

    def __init__(
        self, limit: Limit, clock_s: Callable[[], float], *, max_names: int = 10_000
    ) -> None:
        """`clock_s` is monotonic; `max_names` are remembered."""
        self._limit = limit
        self._clock_s = clock_s
        self._max_names = max_names
        # When each bucket will be empty; its level follows from that.
        self._name_to_empty_at_s: dict[str, float] = {}

    def wait_s(self, name: str) -> int:
        """Return the whole seconds until another attempt is allowed; 0 means now."""
        full_s = self._limit.burst / self._limit.per_s
        drop_s = 1 / self._limit.per_s
        left_s = self._name_to_empty_at_s.get(name, 0.0) - self._clock_s()
        return max(0, math.ceil(left_s + drop_s - full_s))

    def failed(self, name: str) -> None:
        """Count a failure."""
        now_s = self._clock_s()
        empty_at_s = max(now_s, self._name_to_empty_at_s.pop(name, now_s))
        self._name_to_empty_at_s[name] = empty_at_s + 1 / self._limit.per_s
        if len(self._name_to_empty_at_s) > self._max_names:
            self._forget(now_s)

    def forgive_one(self, name: str) -> None:
        """Take back a failure, counted in advance, that did not happen."""
        if name in self._name_to_empty_at_s:
            self._name_to_empty_at_s[name] -= 1 / self._limit.per_s

    def forgive(self, name: str) -> None:
        """Forget the failures of a name."""
        self._name_to_empty_at_s.pop(name, None)

    def _forget(self, now_s: float) -> None:
        kept = {n: at for n, at in self._name_to_empty_at_s.items() if at > now_s}
        # If too few are empty, drop those without a failure for longest.
        while len(kept) > self._max_names // 2:
            del kept[next(iter(kept))]
        self._name_to_empty_at_s = kept
