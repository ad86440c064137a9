"""
Counting, in memory that the workers share with the supervisor.

    cells of 8 bytes, one writer each: no lock, nothing lost when a worker dies

    row 0                  row 1
    | as metrics.py has it | ...

A row outlives the process that counts in it: the next one to have it goes on
where the last one stopped, so no counter ever goes back. Only its gauges are
wiped. One process at a time has a row; who, the supervisor says (worker_slot.py).

Compiled by Cython where there is a C compiler: shared_counters.pxd has the types, this has
the law. Then a count is an addition in memory; through Python's view of the same
memory it takes 0.2 us, of which a bid has five, and through prometheus-client,
which only renders them (admin_port.py), 2 to 6 us.
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
    SECONDS,
    SECONDS_EDGES,
    SECONDS_SUM_NS,
    SEEN,
    STORE_FAULTS,
    UNNAMED,
    CacheEvent,
    Gauge,
    Refusal,
    SeenResult,
    Where,
)
from segments.model.identity import IdentifierKind

_SECONDS_EDGES: Final = array("d", SECONDS_EDGES)
_BATCH_EDGES: Final = array("d", BATCH_EDGES)
_FIRST_OF_OUTCOME: Final = {outcome: ENDING[outcome, REASONS[0]] for outcome in OUTCOMES}
_NUMBER_OF_REASON: Final = {reason: number for number, reason in enumerate(REASONS)}
_CELL_OF_KIND: Final = {kind: IDS + 2 * number for number, kind in enumerate(KINDS)}
_WHERES: Final = tuple(Where)
_REFUSALS: Final = tuple(Refusal)
_SEEN_RESULTS: Final = tuple(SeenResult)
_CACHE_EVENTS: Final = tuple(CacheEvent)


def create(rows: int) -> int:
    """Make the memory for so many processes at a time, all zero; return its file descriptor."""
    fd = os.memfd_create("rtb-metrics")
    os.ftruncate(fd, rows * COUNTERS_BYTES)
    return fd


class SharedCounters:
    """
    One row's cells.

    Args:
        fd: Of the memory that `create` made.
        index: The row's number.
    """

    __slots__ = ("_counts", "_memory", "_names", "_slots", "cells")

    def __init__(self, fd: int, index: int) -> None:
        self._memory = mmap.mmap(fd, COUNTERS_BYTES, offset=index * COUNTERS_BYTES)
        self.cells = memoryview(self._memory)[: CELLS * CELL_BYTES].cast("Q")
        self._counts = self.cells
        self._names = memoryview(self._memory)[NAMES * CELL_BYTES : CELLS * CELL_BYTES]
        self._slots: dict[bytes, int] = {}
        for slot in range(1, OTHERS_SLOT):
            name = self._name(slot)
            if not name:
                break
            self._slots[name] = slot

    def start(self) -> None:
        """Wipe the gauges that a dead predecessor left, and say who we are."""
        self.wipe()
        self.cells[Gauge.PID] = os.getpid()

    def wipe(self) -> None:
        """Forget what a process said of itself; what it counted stays."""
        for gauge in Gauge:
            self.cells[gauge] = 0

    # The bid path's half: increments only.

    def requests_of(self, recipient: str | None) -> int:
        """Return where a recipient's requests are counted; `None` for the unnamed caller."""
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

    def count_request(self, base: int, outcome: Outcome, reason: Reason, elapsed_s: float) -> None:
        """Count one answered request; `base` is its recipient's `requests_of`."""
        bucket = 0
        while bucket < len(_SECONDS_EDGES) and _SECONDS_EDGES[bucket] < elapsed_s:
            bucket += 1
        at = base + _FIRST_OF_OUTCOME[outcome] + _NUMBER_OF_REASON[reason]
        self._counts[at] += 1
        self._counts[SECONDS + bucket] += 1
        self._counts[SECONDS_SUM_NS] += int(elapsed_s * NS_PER_S)

    def count_ids(self, kinds: tuple[IdentifierKind, ...], found: Sequence[bytes | None]) -> None:
        """Count the ids of one question, by whether the store holds anything of them."""
        for n, kind in enumerate(kinds):
            at = _CELL_OF_KIND[kind] + (found[n] is not None)
            self._counts[at] += 1

    def count_round_trip(self, ids: int) -> None:
        """Count one write to the store, and how many ids it asked for."""
        bucket = 0
        while bucket < len(_BATCH_EDGES) and _BATCH_EDGES[bucket] < ids:
            bucket += 1
        self._counts[BATCH + bucket] += 1
        self._counts[BATCH_SUM] += ids

    def count_fault(self, fault: LookupFault) -> None:
        """Count one question that the store did not answer."""
        self.cells[STORE_FAULTS + FAULTS.index(fault)] += 1

    def count_bug(self, where: Where) -> None:
        """Count one bug of ours."""
        self.cells[BUGS + _WHERES.index(where)] += 1

    def count_refusal(self, refusal: Refusal) -> None:
        """Count one request that HTTP refused."""
        self.cells[REFUSED + _REFUSALS.index(refusal)] += 1

    def count_seen(self, result: SeenResult, ids: int) -> None:
        """Count ids that were to be remembered."""
        self.cells[SEEN + _SEEN_RESULTS.index(result)] += ids

    def count_cache(self, event: CacheEvent, times: int) -> None:
        """Count what happened in the near cache since it was counted last."""
        self.cells[CACHE + _CACHE_EVENTS.index(event)] += times

    # The reader's half.

    def requests(self) -> dict[tuple[str, Outcome, Reason], int]:
        """Return how often each recipient's requests came to each ending, where they did."""
        counts = {}
        slots = {UNNAMED: "", OTHERS_SLOT: OTHERS}
        slots |= {slot: name.decode(errors="replace") for name, slot in self._reread().items()}
        for slot, name in slots.items():
            base = REQUESTS + slot * ENDINGS
            for (outcome, reason), ending in ENDING.items():
                if count := self.cells[base + ending]:
                    counts[name, outcome, reason] = count
        return counts

    def _reread(self) -> dict[bytes, int]:
        names = ((self._name(slot), slot) for slot in range(1, OTHERS_SLOT))
        return {name: slot for name, slot in names if name}

    def _name(self, slot: int) -> bytes:
        at = slot * NAME_BYTES
        return bytes(self._names[at : at + NAME_BYTES]).rstrip(b"\0")
