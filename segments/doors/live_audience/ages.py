"""
Ages of states, even if the wall clock is set.

A first age is the wall clock's, as a state may be older than this process; a monotonic clock then
advances it.
"""

from collections.abc import Callable, Hashable

_MAX_KEPT = 10_000


class Ages:
    """The ages of all that a process watches."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        """`clock_s` is monotonic."""
        self._clock_s = clock_s
        self._kept: dict[Hashable, tuple[float, float]] = {}

    def age_s(self, key: Hashable, since_s: float, now_s: float) -> float:
        """
        Return an age in seconds.

        The state of `key` holds since `since_s`, by the wall clock.
        """
        kept = self._kept.get(key)
        if kept is None or kept[0] != since_s:
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            kept = self._kept[key] = (since_s, self._clock_s() - max(0.0, now_s - since_s))
        return self._clock_s() - kept[1]
