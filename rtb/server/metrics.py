"""
What the workers count, in memory that they share with the supervisor.

    cells of 8 bytes, one writer each: no lock, nothing lost when a worker dies

    row 0                                             row 1 ...
    | gauges | counters | histograms | requests: slot x ending | names of slots |

A row outlives the process that counts in it: the next one to have it goes on
where the last one stopped, so no counter ever goes back. Only its gauges are
wiped. One process at a time has a row; who, the supervisor says (seat.py).

Requests are counted by recipient, outcome and reason. A recipient's slot is
named in the slab itself, so that the reader needs no catalog; the last slot
takes all recipients that come too late for one of their own.

Measured: 0.3 µs a request for everything counted of it, against 2-6 µs for
each observation through prometheus-client, which only renders them (admin.py).
Labels are closed lists and configured names. No text of a request gets here.
"""

import mmap
import os
from bisect import bisect_left
from collections.abc import Sequence
from enum import IntEnum, StrEnum, auto
from typing import Final

from rtb.link import LookupFault
from rtb.outcome import Outcome, Reason
from segments.identity import Kind

SECONDS_EDGES: Final[Sequence[float]] = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05)
"""Buckets of the latency histogram: the budgets that buyers' hosts publish, and around them."""

BATCH_EDGES: Final[Sequence[float]] = (1, 2, 4, 8, 16, 32, 64, 128)

SLOTS: Final = 256
NAME_BYTES: Final = 64
UNNAMED: Final = 0
_OTHERS: Final = SLOTS - 1
OTHERS: Final = "(others)"

NS_PER_S: Final = 1_000_000_000


class Gauge(IntEnum):
    """What a worker says of itself; wiped when it starts."""

    PID = 0
    BEAT_AT_S = auto()  # unix time at which its event loop last came round
    LINK = auto()  # 0 unknown, 1 up, else 2 + the number of its LookupFault
    CATALOG_VERSION = auto()
    CATALOG_SEEN_AT_S = auto()  # unix time at which the store last confirmed the catalog
    IN_FLIGHT = auto()
    CONNECTIONS = auto()
    IS_DRAINING = auto()
    IS_LISTENING = auto()  # accepts connections; one that is to succeed another waits until ready
    CACHE_ENTRIES = auto()
    CACHE_BYTES = auto()


class Where(StrEnum):
    """Where a bug was caught that cost one request its segments, or one callback."""

    ASK = "ask"
    ANSWER = "answer"
    FORM = "form"
    LOOKUP = "lookup"
    HTTP = "http"
    LOOP = "loop"


class Refusal(StrEnum):
    """Requests that HTTP refuses before they can be bid requests. Also `X-Enrich-Error`."""

    BAD_HTTP = "bad_http"
    UNKNOWN_PATH = "unknown_path"
    UNKNOWN_RECIPIENT = "unknown_recipient"
    NOT_POST = "not_post"
    TOO_SLOW = "too_slow"
    BODY_TOO_LARGE = "body_too_large"
    HEAD_TOO_LARGE = "head_too_large"
    CONTENT_TYPE = "content_type"
    EXPECTATION = "expectation"


class SeenResult(StrEnum):
    """What became of an id that was to be remembered; see `rtb.server.seen`."""

    REMEMBERED = "remembered"
    DROPPED = "dropped"  # too many at once, or the store could not be written


class CacheEvent(StrEnum):
    """What became of an id, or an entry, in the near cache; see `rtb.cache.Counts`."""

    HITS = "hits"
    SHARED = "shared"
    UNLEASED = "unleased"
    MISSES = "misses"
    RENEWALS = "renewals"
    INVALIDATIONS = "invalidations"
    EVICTIONS = "evictions"


KINDS: Final = tuple(Kind)
OUTCOMES: Final = tuple(Outcome)
REASONS: Final = tuple(Reason)
_ENDINGS: Final = len(OUTCOMES) * len(REASONS)
ENDING: Final = {
    (outcome, reason): i * len(REASONS) + j
    for i, outcome in enumerate(OUTCOMES)
    for j, reason in enumerate(REASONS)
}
FAULTS: Final = tuple(LookupFault)
LINK_UP: Final = 1
LINK_FAULT: Final = {fault: 2 + i for i, fault in enumerate(FAULTS)}


# Where each table begins, in cells. A histogram is its buckets, the one without
# an upper edge, and the sum.
_GAUGES: Final = 0
SECONDS: Final = _GAUGES + len(Gauge)
SECONDS_SUM_NS: Final = SECONDS + len(SECONDS_EDGES) + 1
BATCH: Final = SECONDS_SUM_NS + 1
BATCH_SUM: Final = BATCH + len(BATCH_EDGES) + 1
IDS: Final = BATCH_SUM + 1
"""Two cells for each kind: nothing is held of the id, something is."""
STORE_FAULTS: Final = IDS + 2 * len(KINDS)
BUGS: Final = STORE_FAULTS + len(FAULTS)
REFUSED: Final = BUGS + len(Where)
SEEN: Final = REFUSED + len(Refusal)
CACHE: Final = SEEN + len(SeenResult)
REQUESTS: Final = CACHE + len(CacheEvent)
_NAMES: Final = REQUESTS + SLOTS * _ENDINGS
_CELLS: Final = _NAMES + SLOTS * NAME_BYTES // 8
_SLAB_BYTES: Final = -(-_CELLS * 8 // mmap.PAGESIZE) * mmap.PAGESIZE


class Slab:
    """
    One row's cells.

    Args:
        fd: Of the memory that `create` made.
        index: The row's number.
    """

    __slots__ = ("_memory", "_names", "_slots", "cells")

    def __init__(self, fd: int, index: int) -> None:
        self._memory = mmap.mmap(fd, _SLAB_BYTES, offset=index * _SLAB_BYTES)
        self.cells = memoryview(self._memory)[: _CELLS * 8].cast("Q")
        self._names = memoryview(self._memory)[_NAMES * 8 : _CELLS * 8]
        self._slots: dict[bytes, int] = {}
        for slot in range(1, _OTHERS):
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
            slot = min(len(self._slots) + 1, _OTHERS)
            if slot < _OTHERS:
                self._slots[name] = slot
                at = slot * NAME_BYTES
                self._names[at : at + len(name)] = name
        return REQUESTS + slot * _ENDINGS

    def count_request(self, base: int, outcome: Outcome, reason: Reason, elapsed_s: float) -> None:
        """Count one answered request; `base` is its recipient's `requests_of`."""
        cells = self.cells
        cells[base + ENDING[outcome, reason]] += 1
        cells[SECONDS + bisect_left(SECONDS_EDGES, elapsed_s)] += 1
        cells[SECONDS_SUM_NS] += int(elapsed_s * NS_PER_S)

    def count_ids(self, kinds: tuple[Kind, ...], found: Sequence[bytes | None]) -> None:
        """Count the ids of one question, by whether the store holds anything of them."""
        cells = self.cells
        for n, kind in enumerate(kinds):
            cells[_KIND_CELL[kind] + (found[n] is not None)] += 1

    def count_round_trip(self, ids: int) -> None:
        """Count one write to the store, and how many ids it asked for."""
        cells = self.cells
        cells[BATCH + bisect_left(BATCH_EDGES, ids)] += 1
        cells[BATCH_SUM] += ids

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
        slots = {UNNAMED: "", _OTHERS: OTHERS}
        slots |= {slot: name.decode(errors="replace") for name, slot in self._reread().items()}
        for slot, name in slots.items():
            base = REQUESTS + slot * _ENDINGS
            for (outcome, reason), ending in ENDING.items():
                if count := self.cells[base + ending]:
                    counts[name, outcome, reason] = count
        return counts

    def _reread(self) -> dict[bytes, int]:
        names = ((self._name(slot), slot) for slot in range(1, _OTHERS))
        return {name: slot for name, slot in names if name}

    def _name(self, slot: int) -> bytes:
        at = slot * NAME_BYTES
        return bytes(self._names[at : at + NAME_BYTES]).rstrip(b"\0")


_KIND_CELL: Final = {kind: IDS + 2 * i for i, kind in enumerate(KINDS)}
_WHERES: Final = tuple(Where)
_REFUSALS: Final = tuple(Refusal)
_SEEN_RESULTS: Final = tuple(SeenResult)
_CACHE_EVENTS: Final = tuple(CacheEvent)


def create(rows: int) -> int:
    """Make the memory for so many processes at a time, all zero; return its file descriptor."""
    fd = os.memfd_create("rtb-metrics")
    os.ftruncate(fd, rows * _SLAB_BYTES)
    return fd
