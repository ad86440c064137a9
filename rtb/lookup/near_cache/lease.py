"""
The near cache's size limit, lease and counters.

The clock is CLOCK_BOOTTIME, which also counts while the machine sleeps. A virtual machine
whose host stops its clocks may use an expired lease, for as long as a lease after it resumes.
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
    """The most that a worker keeps, as `RecordCache` counts it."""

    lease_ms: int
    """
    How long an answer may be used, from when its question was sent; also the wait of an
    opt-out's writer.
    """

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
        """The store's error code if it refuses tracking or registration: no cache."""


class Registration:
    """
    Until when the store counts this worker among those that cache.

    Args:
        holds_s: How long a registration holds after its last successful command was sent.
    """

    __slots__ = ("at_s", "holds_s", "until_s")

    def __init__(self, holds_s: float) -> None:
        self.holds_s = holds_s
        self.at_s = 0.0
        self.until_s = 0.0

    def confirm(self, sent_at_s: float, now_s: float) -> None:
        """Record a successful registration, sent at `sent_at_s`."""
        if now_s >= self.until_s:
            # Until now, writers may have acknowledged without a wait for this worker.
            self.at_s = now_s
        self.until_s = sent_at_s + self.holds_s

    def void(self) -> None:
        """Mark the registration as lost."""
        self.until_s = 0.0
