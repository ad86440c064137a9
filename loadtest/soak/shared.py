"""
Shared memory between the processes of a soak: cells with one writer each.

    the drivers         their counters, a row each
    the fault injector  the present fault and its start, and the state of each wave
"""

from collections.abc import Mapping
from enum import IntEnum, auto
from multiprocessing.context import SpawnContext
from typing import Any

from rtb.outcome import Outcome

NS_PER_S = 1_000_000_000
MEANWHILE_NS = NS_PER_S // 2
"""Of a fault's effects after its end."""

LOST_WITHIN_NS = 5 * NS_PER_S
"""Until a driver on a busy machine notices a killed worker."""


class Count(IntEnum):
    """The counters of a driver."""

    ANSWERED = 0
    RIGHT = auto()
    OUT_OF_TIME = auto()  # passed through, during a fault
    STORE_DOWN = auto()
    SHED = auto()
    CALM_OUT_OF_TIME = auto()  # ... without a fault, perhaps on a busy machine
    CALM_STORE_DOWN = auto()
    CALM_SHED = auto()
    LOST = auto()  # the connection ended without the answer when its worker was killed
    WRONG = auto()
    IN_FULL = auto()  # answers judged in full, not by comparing bytes
    ENDED_POLITELY = auto()  # connections that ended with an answer that announced it


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
    """The state of a wave."""

    BEFORE = 0
    PASSING = 1
    OVER = 2


class _Control(IntEnum):
    IS_BROKEN = 0
    IS_EMPTIED = auto()
    MENDED_AT_NS = auto()
    KILLED_AT_NS = auto()
    IS_OVER = auto()


class Shared:
    """
    The cells.

    Args:
        context: Of the processes.
        drivers: Their number.
        waves: Their number.
    """

    def __init__(self, context: SpawnContext, drivers: int, waves: int) -> None:
        self._counts: list[Any] = [context.RawArray("Q", len(Count)) for _ in range(drivers)]
        self.waves: Any = context.RawArray("B", max(waves, 1))
        """The `WaveState` of each wave."""

        self._control: Any = context.RawArray("Q", len(_Control))

    def of(self, driver: int) -> Any:
        """Return the counters of a driver."""
        return self._counts[driver]

    def total(self, count: Count) -> int:
        """Return a counter's sum over all drivers."""
        return sum(cells[count] for cells in self._counts)

    def passed_through(self, kinds: Mapping[str, Count]) -> int:
        """Return the number of passed-through answers, of `BROKEN` or of `CALM`."""
        return sum(map(self.total, kinds.values()))

    def breaks(self) -> None:
        """Announce a fault."""
        self._control[_Control.IS_BROKEN] = 1

    def empties(self) -> None:
        """Announce a fault that takes all persons from a store which goes on answering."""
        self.breaks()
        self._control[_Control.IS_EMPTIED] = 1

    def mended(self, now_ns: int) -> None:
        """Announce the end of a fault."""
        self._control[_Control.MENDED_AT_NS] = now_ns
        self._control[_Control.IS_EMPTIED] = 0
        self._control[_Control.IS_BROKEN] = 0

    def kills(self, now_ns: int) -> None:
        """Announce the killing of a worker: its connections will be lost."""
        self._control[_Control.KILLED_AT_NS] = now_ns

    def ends(self) -> None:
        """Tell the drivers to stop."""
        self._control[_Control.IS_OVER] = 1

    @property
    def is_over(self) -> bool:
        """Whether the drivers must stop sending."""
        return bool(self._control[_Control.IS_OVER])

    @property
    def is_emptied(self) -> bool:
        """Whether the store may be empty, and not closed to bids yet."""
        return bool(self._control[_Control.IS_EMPTIED])

    def was_broken(self, since_ns: int) -> bool:
        """Whether a fault existed at any time since then."""
        control = self._control
        if control[_Control.IS_BROKEN]:
            return True
        mended_at_ns: int = control[_Control.MENDED_AT_NS]
        return bool(mended_at_ns) and since_ns <= mended_at_ns + MEANWHILE_NS

    def was_killed(self, now_ns: int) -> bool:
        """Whether a worker has just been killed."""
        killed_at_ns: int = self._control[_Control.KILLED_AT_NS]
        return bool(killed_at_ns) and now_ns <= killed_at_ns + LOST_WITHIN_NS
