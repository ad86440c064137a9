"""
Slows down whoever guesses passwords.

A bucket for each name that failures are counted under: it holds so many, and
leaks so many a second. A full one refuses, whatever the password, until a drop
has leaked. Counting under one name alone would be wrong either way: by username
alone, a stranger can lock a user out; by address alone, a thousand machines
guess in parallel. So a login is counted under both together, strictly, and
under each, generously.

Kept in this process's memory: a restart forgets, replicas count apart. The
number of buckets is bounded; the ones that leaked empty go first.
"""

import math
from collections.abc import Callable
from typing import NamedTuple


class Limit(NamedTuple):
    """How many failures are forgiven at once, and how many more in each second."""

    burst: int
    per_s: float


class Throttle:
    """Counts failures under names of one kind."""

    def __init__(
        self, limit: Limit, clock_s: Callable[[], float], *, max_names: int = 10_000
    ) -> None:
        """
        Args:
            limit: Of each name.
            clock_s: Monotonic.
            max_names: How many are remembered.
        """
        self._limit = limit
        self._clock_s = clock_s
        self._max_names = max_names
        # When each bucket will have leaked empty; the level follows from it.
        self._name_to_empty_at_s: dict[str, float] = {}

    def wait_s(self, name: str) -> int:
        """Return the whole seconds until another attempt is let through; 0 is now."""
        full_s = self._limit.burst / self._limit.per_s
        drop_s = 1 / self._limit.per_s
        left_s = self._name_to_empty_at_s.get(name, 0.0) - self._clock_s()
        # Nothing is forgiven in part: room for one whole failure.
        return max(0, math.ceil(left_s + drop_s - full_s))

    def failed(self, name: str) -> None:
        """Count a failure."""
        now_s = self._clock_s()
        empty_at_s = max(now_s, self._name_to_empty_at_s.pop(name, now_s))
        self._name_to_empty_at_s[name] = empty_at_s + 1 / self._limit.per_s
        if len(self._name_to_empty_at_s) > self._max_names:
            self._forget(now_s)

    def forgive_one(self, name: str) -> None:
        """Take back a failure that was counted beforehand and then was none."""
        if name in self._name_to_empty_at_s:
            self._name_to_empty_at_s[name] -= 1 / self._limit.per_s

    def forgive(self, name: str) -> None:
        """Forget the failures under a name."""
        self._name_to_empty_at_s.pop(name, None)

    def _forget(self, now_s: float) -> None:
        kept = {n: at for n, at in self._name_to_empty_at_s.items() if at > now_s}
        # The oldest of those that failed most recently, if all of them are at it.
        while len(kept) > self._max_names // 2:
            del kept[next(iter(kept))]
        self._name_to_empty_at_s = kept
