"""
What the processes of a soak say to each other, in memory: cells with one writer each.

    the drivers         what they count, a row each
    the one who faults  what is broken now and since when, and how far each wave is
"""

from collections.abc import Mapping
from enum import IntEnum, auto
from multiprocessing.context import SpawnContext
from typing import Any

from rtb.outcome import Outcome

NS_PER_S = 1_000_000_000
MEANWHILE_NS = NS_PER_S // 2
"""How long after a fault is mended its last traces may come."""

LOST_WITHIN_NS = 5 * NS_PER_S
"""How long after a worker was killed a driver on a busy machine may notice."""


class Count(IntEnum):
    """What a driver counts."""

    ANSWERED = 0
    RIGHT = auto()
    OUT_OF_TIME = auto()  # passed through, while something was broken
    STORE_DOWN = auto()
    SHED = auto()
    CALM_OUT_OF_TIME = auto()  # ... while nothing was, but perhaps the machine was busy
    CALM_STORE_DOWN = auto()
    CALM_SHED = auto()
    LOST = auto()  # the connection ended without the answer, for its worker was killed
    WRONG = auto()
    IN_FULL = auto()  # answers judged in full, and not by comparing bytes
    ENDED_POLITELY = auto()  # connections that ended with an answer that said so


BROKEN: Mapping[str, Count] = {
    Outcome.OUT_OF_TIME: Count.OUT_OF_TIME,
    Outcome.STORE_DOWN: Count.STORE_DOWN,
    Outcome.SHED: Count.SHED,
}
CALM: Mapping[str, Count] = {
    Outcome.OUT_OF_TIME: Count.CALM_OUT_OF_TIME,
    Outcome.STORE_DOWN: Count.CALM_STORE_DOWN,
    Outcome.SHED: Count.CALM_SHED,
}


class WaveState(IntEnum):
    """How far a wave is."""

    BEFORE = 0
    PASSING = 1
    OVER = 2


class _Control(IntEnum):
    IS_BROKEN = 0
    MENDED_AT_NS = auto()
    KILLED_AT_NS = auto()
    IS_OVER = auto()


class Shared:
    """
    The cells.

    Args:
        context: Of the processes.
        drivers: How many.
        waves: How many.
    """

    def __init__(self, context: SpawnContext, drivers: int, waves: int) -> None:
        self._counts: list[Any] = [context.RawArray("Q", len(Count)) for _ in range(drivers)]
        self.waves: Any = context.RawArray("B", max(waves, 1))
        """The `WaveState` of each."""

        self._control: Any = context.RawArray("Q", len(_Control))

    def of(self, driver: int) -> Any:
        """Return the cells that one driver counts in."""
        return self._counts[driver]

    def total(self, count: Count) -> int:
        """Return what all drivers have counted."""
        return sum(cells[count] for cells in self._counts)

    def passed_through(self, kinds: Mapping[str, Count]) -> int:
        """Return how many answers passed through, of `BROKEN` or of `CALM`."""
        return sum(map(self.total, kinds.values()))

    def breaks(self) -> None:
        """Say that something is about to be broken: what passes through from now on is excused."""
        self._control[_Control.IS_BROKEN] = 1

    def mended(self, now_ns: int) -> None:
        """Say that all is well again."""
        self._control[_Control.MENDED_AT_NS] = now_ns
        self._control[_Control.IS_BROKEN] = 0

    def kills(self, now_ns: int) -> None:
        """Say that a worker is about to be killed: its connections will be lost."""
        self._control[_Control.KILLED_AT_NS] = now_ns

    def ends(self) -> None:
        """Tell the drivers that it is enough."""
        self._control[_Control.IS_OVER] = 1

    @property
    def is_over(self) -> bool:
        """Whether no request more is to be sent."""
        return bool(self._control[_Control.IS_OVER])

    def was_broken(self, since_ns: int) -> bool:
        """Whether anything was broken at any time from then until now."""
        control = self._control
        if control[_Control.IS_BROKEN]:
            return True
        mended_at_ns: int = control[_Control.MENDED_AT_NS]
        return bool(mended_at_ns) and since_ns <= mended_at_ns + MEANWHILE_NS

    def was_killed(self, now_ns: int) -> bool:
        """Whether a worker was killed just now."""
        killed_at_ns: int = self._control[_Control.KILLED_AT_NS]
        return bool(killed_at_ns) and now_ns <= killed_at_ns + LOST_WITHIN_NS
