"""
How much may be kept near, for how long it stands, and how it fares.

The clock also counts while the machine sleeps (CLOCK_BOOTTIME). A virtual
machine that is stopped from outside, and whose clocks stand still meanwhile, can
deceive it: for the length of a lease after it goes on.
"""

import time
from dataclasses import dataclass

from segments.store.cache_lease import MS_PER_S


def uptime_s() -> float:
    """Return how long ago the machine was started, the time that it slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class CacheLimits:
    """What may be kept, and for how long it stands."""

    max_bytes: int
    """All that a worker keeps, as `RecordCache` counts."""

    lease_ms: int
    """
    How long an answer may be taken for the present state of the store; also how
    long whoever writes an opt-out waits.
    """

    @property
    def lease_s(self) -> float:
        """The same in seconds."""
        return self.lease_ms / MS_PER_S


class Counts:
    """
    How ids fared, since the worker began.

    Each id that was asked for is a hit, shared, unleased or a miss.
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
        """Answered by a question that was on its way for another bid."""
        self.unleased = 0
        """Kept, and asked for all the same: there was no lease."""
        self.misses = 0
        self.renewals = 0
        """Asked for a second time only to renew the lease."""
        self.invalidations = 0
        """Entries that were forgotten because the store said so."""
        self.evictions = 0
        """Entries that were forgotten to make room."""
        self.entries = 0
        self.total_bytes = 0
        self.refusal = ""
        """The code of the store's error, if it does not tell of its changes: nothing is kept."""


class Registration:
    """
    For how long the store knows that we keep what it says.

    Args:
        holds_s: How long it stands after the last command that was heard.
    """

    __slots__ = ("at_s", "holds_s", "until_s")

    def __init__(self, holds_s: float) -> None:
        self.holds_s = holds_s
        self.at_s = 0.0
        self.until_s = 0.0

    def confirm(self, sent_at_s: float, now_s: float) -> None:
        """Note that the store knows of us, by a command that was sent at `sent_at_s`."""
        if now_s >= self.until_s:
            # Writers that did not find us may have acknowledged until now.
            self.at_s = now_s
        self.until_s = sent_at_s + self.holds_s

    def void(self) -> None:
        """Note that it may not know of us any more."""
        self.until_s = 0.0
