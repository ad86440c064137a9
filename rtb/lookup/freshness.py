"""
Whether opt-outs still reach the server that is asked; the law is `segments.store.freshness`'s.

One of these belongs to one server, and is told with each probe what its number is. It is kept
while links come and go, as long as they lead to the same run of the server: the same memory.
"""

from math import inf
from typing import Final

from rtb.lookup.link import Command
from segments.store.keys import fresh_key

MIN_MAX_AGE_S: Final = 6.0
"""Six times as long as loaders take from one note to the next."""


def note_command(slot: int | None = None) -> Command:
    """Make the question for a server's number; `slot` is one that it has, in a Cluster."""
    return (b"GET", fresh_key(slot))


class Freshness:
    """
    When a server's number was last seen to change.

    Args:
        max_age_s: How long ago that may be; 0: it does not matter.
    """

    __slots__ = ("_changed_at_s", "_max_age_s", "_number", "_run")

    def __init__(self, max_age_s: float) -> None:
        self._max_age_s = max_age_s
        self._run = b""
        self._number: object = None
        self._changed_at_s = -inf

    def take(self, run: bytes, number: object, now_s: float) -> None:
        """
        Take what the server has said.

        Args:
            run: Of the server.
            number: Bytes; `None` if nobody has raised it yet.
            now_s: Monotonic.
        """
        if run != self._run:
            self._run, self._changed_at_s = run, -inf
        elif number != self._number and isinstance(number, bytes):
            self._changed_at_s = now_s
        self._number = number

    def left_s(self, now_s: float) -> float:
        """Return for how long it is fresh without another change; not at all if that is below 0."""
        if not self._max_age_s:
            return inf
        return self._changed_at_s + self._max_age_s - now_s
