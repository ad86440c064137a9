"""
Counting, in memory that the workers share with the supervisor.

    cells of 8 bytes, one writer each: no lock, nothing lost when a worker dies

    row 0                  row 1
    | as in layout.py      | ...

A row outlives its process: the next, chosen by the supervisor (worker_slot.py), continues the
counts, so no counter goes back. Only gauges are wiped.

Compiled by Cython if there is a C compiler: shared_counters.pxd has the types. A count is then an
addition in memory; through Python's view of it 0.2 µs, five times a bid; through prometheus-client,
which only renders (admin_port.py), 2 to 6 µs.
"""

import mmap
import os
from array import array
from collections.abc import Sequence
from typing import Final

from rtb.lookup.link import LookupFault
from rtb.outcome import Outcome, Reason
from rtb.server.metrics.layout import (
    BATCH,
    BATCH_EDGES,
    BATCH_SUM,
    BUGS,
    CACHE,
    CELL_BYTES,
    CELLS,
    COUNTERS_BYTES,
    ENDING,
    ENDINGS,
    FAULTS,
    IDS,
    KINDS,
    NAME_BYTES,
    NAMES,
    NS_PER_S,
    OTHERS,
    OTHERS_SLOT,
    OUTCOMES,
    REASONS,
    REFUSED,
    REQUESTS,
    SAID,
    SAID_BYTES,
    SECONDS_EDGES,
    SEEN,
    STORE_FAULTS,
    UNNAMED,
    WAIT,
    CacheEvent,
    Gauge,
    Refusal,
    Said,
    SeenResult,
    Where,
)
from segments.model.identity import IdentifierKind

_SECONDS_EDGES: Final = array("d", SECONDS_EDGES)
_BATCH_EDGES: Final = array("d", BATCH_EDGES)
_SUM_NS: Final = len(SECONDS_EDGES) + 1
_FIRST_OF_OUTCOME: Final = {outcome: ENDING[outcome, REASONS[0]] for outcome in OUTCOMES}
_NUMBER_OF_REASON: Final = {reason: number for number, reason in enumerate(REASONS)}
_CELL_OF_KIND: Final = {kind: IDS + 2 * number for number, kind in enumerate(KINDS)}
_WHERES: Final = tuple(Where)
_REFUSALS: Final = tuple(Refusal)
_SEEN_RESULTS: Final = tuple(SeenResult)
_CACHE_EVENTS: Final = tuple(CacheEvent)


def create(rows: int) -> int:
    """Make zeroed memory for that many rows; return its file descriptor."""
    fd = os.memfd_create("rtb-metrics")
    os.ftruncate(fd, rows * COUNTERS_BYTES)
    return fd


class SharedCounters:
    """
    A row's cells.

    Args:
        fd: Of the memory that `create` made.
        index: The row's number.
    """

    __slots__ = ("_counts", "_memory", "_names", "_said", "_slots", "cells")

    def __init__(self, fd: int, index: int) -> None:
        self._memory = mmap.mmap(fd, COUNTERS_BYTES, offset=index * COUNTERS_BYTES)
        self.cells = memoryview(self._memory)[: CELLS * CELL_BYTES].cast("Q")
        self._counts = self.cells
        self._names = memoryview(self._memory)[NAMES * CELL_BYTES : SAID * CELL_BYTES]
        self._said = memoryview(self._memory)[SAID * CELL_BYTES : CELLS * CELL_BYTES]
        self._slots: dict[bytes, int] = {}
        for slot in range(1, OTHERS_SLOT):
            name = self._name(slot)
            if not name:
                break
            self._slots[name] = slot

    def start(self) -> None:
        """Wipe the gauges of a dead predecessor, and set our process id."""
        self.wipe()
        self.cells[Gauge.PID] = os.getpid()

    def wipe(self) -> None:
        """Clear gauges and texts; keep the counts."""
        for gauge in Gauge:
            self.cells[gauge] = 0
        for said in Said:
            self.say(said, "")

    def say(self, said: Said, text: str) -> None:
        """Set a text; "" clears it."""
        at = said * SAID_BYTES
        self._said[at : at + SAID_BYTES] = text.encode()[:SAID_BYTES].ljust(SAID_BYTES, b"\0")

    # The bid path's half: increments only.

    def requests_of(self, recipient: str | None) -> int:
        """Return the base cell of a recipient's requests; `None`: the unnamed caller."""
        if recipient is None:
            return REQUESTS
        name = recipient.encode()[:NAME_BYTES]
        slot = self._slots.get(name)
        if slot is None:
            slot = min(len(self._slots) + 1, OTHERS_SLOT)
            if slot < OTHERS_SLOT:
                self._slots[name] = slot
                at = slot * NAME_BYTES
                self._names[at : at + len(name)] = name
        return REQUESTS + slot * ENDINGS

    def count_request(
        self, base: int, timing: int, outcome: Outcome, reason: Reason, elapsed_s: float
    ) -> None:
        """
        Count an answered request.

        Args:
            base: Its recipient's `requests_of`.
            timing: Its cell of `layout.timings_of`.
            outcome: How it ended.
            reason: Why.
            elapsed_s: Its duration.
        """
        at = base + _FIRST_OF_OUTCOME[outcome] + _NUMBER_OF_REASON[reason]
        self._counts[at] += 1
        self._count_seconds(timing, elapsed_s)

    def count_wait(self, waited_s: float) -> None:
        """Count the wait of a question without a reply in time."""
        self._count_seconds(WAIT, waited_s)

    def count_ids(
        self, kinds: tuple[IdentifierKind, ...], found: Sequence[bytes | None], waited_s: float
    ) -> None:
        """
        Count an answered question: its wait, and its ids, with and without a record.
        """
        self._count_seconds(WAIT, waited_s)
        for n, kind in enumerate(kinds):
            at = _CELL_OF_KIND[kind] + (found[n] is not None)
            self._counts[at] += 1

    def count_round_trip(self, ids: int) -> None:
        """Count a write to the store and its ids."""
        bucket = 0
        while bucket < len(_BATCH_EDGES) and _BATCH_EDGES[bucket] < ids:
            bucket += 1
        self._counts[BATCH + bucket] += 1
        self._counts[BATCH_SUM] += ids

    def _count_seconds(self, at: int, elapsed_s: float) -> None:
        """Count a duration in the histogram that begins at this cell."""
        bucket = 0
        while bucket < len(_SECONDS_EDGES) and _SECONDS_EDGES[bucket] < elapsed_s:
            bucket += 1
        self._counts[at + bucket] += 1
        self._counts[at + _SUM_NS] += int(elapsed_s * NS_PER_S)

    def count_fault(self, fault: LookupFault) -> None:
        """Count a question that the store did not answer."""
        self.cells[STORE_FAULTS + FAULTS.index(fault)] += 1

    def count_bug(self, where: Where) -> None:
        """Count a bug of ours."""
        self.cells[BUGS + _WHERES.index(where)] += 1

    def count_refusal(self, refusal: Refusal) -> None:
        """Count a request that HTTP refused."""
        self.cells[REFUSED + _REFUSALS.index(refusal)] += 1

    def count_seen(self, result: SeenResult, ids: int) -> None:
        """Count ids to remember."""
        self.cells[SEEN + _SEEN_RESULTS.index(result)] += ids

    def count_cache(self, event: CacheEvent, times: int) -> None:
        """Count events of the near cache since the last call."""
        self.cells[CACHE + _CACHE_EVENTS.index(event)] += times

    # The reader's half.

    def requests(self) -> dict[tuple[str, Outcome, Reason], int]:
        """Return the number of requests by recipient, outcome and reason, without zeros."""
        counts = {}
        slots = {UNNAMED: "", OTHERS_SLOT: OTHERS}
        slots |= {slot: name.decode(errors="replace") for name, slot in self._reread().items()}
        for slot, name in slots.items():
            base = REQUESTS + slot * ENDINGS
            for (outcome, reason), ending in ENDING.items():
                if count := self.cells[base + ending]:
                    counts[name, outcome, reason] = count
        return counts

    def said(self, said: Said) -> str:
        """Return a text of the worker."""
        at = said * SAID_BYTES
        return bytes(self._said[at : at + SAID_BYTES]).rstrip(b"\0").decode(errors="replace")

    def _reread(self) -> dict[bytes, int]:
        names = ((self._name(slot), slot) for slot in range(1, OTHERS_SLOT))
        return {name: slot for name, slot in names if name}

    def _name(self, slot: int) -> bytes:
        at = slot * NAME_BYTES
        return bytes(self._names[at : at + NAME_BYTES]).rstrip(b"\0")
