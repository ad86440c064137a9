"""
Whether opt-outs still reach a server; the rule is in `segments.store.freshness`.

Each server has an instance, which gets the server's number with each probe, and survives reconnects
within the server's run.
"""

from math import inf
from typing import Final

from rtb.lookup.link import Command
from segments.store.keys import fresh_key

MIN_MAX_AGE_S: Final = 6.0
"""Six times the interval between a loader's notes."""


def note_command(slot: int | None = None) -> Command:
    """Make the question for a server's number; in a Cluster, `slot` is any of its slots."""
    return (b"GET", fresh_key(slot))


class Freshness:
    """
    When this worker last saw a server's number change.

    Args:
        max_age_s: Of that change; 0: no limit.
    """

    __slots__ = ("_changed_at_s", "_max_age_s", "_number", "_run")

    def __init__(self, max_age_s: float) -> None:
        self._max_age_s = max_age_s
        self._run = b""
        self._number: object = None
        self._changed_at_s = -inf

    def take(self, run: bytes, number: object, now_s: float) -> None:
        """
        Record the server's number.

        Args:
            run: Of the server.
            number: Bytes; `None` if no loader has set it yet.
            now_s: Monotonic.
        """
        if run != self._run:
            self._run, self._changed_at_s = run, -inf
        elif number != self._number and isinstance(number, bytes):
            self._changed_at_s = now_s
        self._number = number

    def left_s(self, now_s: float) -> float:
        """Return the seconds until stale; 0 or less: stale."""
        if not self._max_age_s:
            return inf
        return self._changed_at_s + self._max_age_s - now_s
