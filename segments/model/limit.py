"""A rate limit: a leaky bucket."""

from typing import NamedTuple


class Limit(NamedTuple):
    """The capacity of the bucket, and its leak per second."""

    burst: int
    per_s: float

    @property
    def drop_s(self) -> float:
        """Seconds in which a drop leaks."""
        return 1 / self.per_s

    @property
    def full_s(self) -> float:
        """Seconds in which a full bucket becomes empty."""
        return self.burst / self.per_s
