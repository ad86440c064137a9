"""
The near cache's size limit, lease and counters.

CLOCK_BOOTTIME also counts while the machine sleeps. A virtual machine whose clocks stop may use an
expired lease for a lease's length after it resumes.
"""

import time
from dataclasses import dataclass

from segments.store.cache_lease import MS_PER_S


def uptime_s() -> float:
    """Return the seconds since the machine's boot, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class CacheLimits:
    """The limits of a near cache."""

    max_bytes: int
    """Of a worker, as `RecordCache` counts."""

    lease_ms: int
    """An answer's use, from when its question was sent; also an opt-out's wait."""

    @property
    def lease_s(self) -> float:
        """The lease in seconds."""
        return self.lease_ms / MS_PER_S


class Counts:
    """
    Counters of ids since the worker's start.

    Each id of a question is a hit, shared, unleased or a miss.
    """

    __slots__ = (
        "entries",
        "evictions",
        "hits",
        "invalidations",
        "misses",
        "refusal",
        "renewals",
        "shared",
        "total_bytes",
        "unleased",
    )

    def __init__(self) -> None:
        self.hits = 0
        self.shared = 0
        """Answered by another bid's pending question."""
        self.unleased = 0
        """Kept, but asked again: there was no lease."""
        self.misses = 0
        self.renewals = 0
        """Asked again only to renew the lease."""
        self.invalidations = 0
        """Entries dropped after a change."""
        self.evictions = 0
        """Entries dropped for room."""
        self.entries = 0
        self.total_bytes = 0
        self.refusal = ""
        """The store's error code, if it refuses tracking or registration."""


class Registration:
    """
    Until when the store counts this worker as caching.

    Args:
        holds_s: From when the last successful command was sent.
    """

    __slots__ = ("at_s", "holds_s", "until_s")

    def __init__(self, holds_s: float) -> None:
        self.holds_s = holds_s
        self.at_s = 0.0
        self.until_s = 0.0

    def confirm(self, sent_at_s: float, now_s: float) -> None:
        """Record a successful registration, sent at `sent_at_s`."""
        if now_s >= self.until_s:
            # Until now, writers may not have waited for this worker.
            self.at_s = now_s
        self.until_s = sent_at_s + self.holds_s

    def void(self) -> None:
        """Mark the registration as lost."""
        self.until_s = 0.0
