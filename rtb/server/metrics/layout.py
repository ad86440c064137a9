"""
What the workers count: the vocabulary, and where each count has its cell.

    | gauges | counters | histograms | requests: slot x ending | names of slots |

Requests are counted by recipient, outcome and reason. A recipient's slot is
named in the counters itself, so that the reader needs no catalog; the last slot
takes all recipients that come too late for one of their own.

Labels are closed lists and configured names. No text of a request gets here.
The counting itself is in `rtb.server.metrics.shared_counters`.
"""

import mmap
from collections.abc import Sequence
from enum import IntEnum, StrEnum, auto
from typing import Final

from rtb.lookup.link import LookupFault
from rtb.outcome import Outcome, Reason
from segments.model.identity import IdentifierKind

SECONDS_EDGES: Final[Sequence[float]] = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05)
"""Buckets of the latency histogram: the budgets that buyers' hosts publish, and around them."""

BATCH_EDGES: Final[Sequence[float]] = (1, 2, 4, 8, 16, 32, 64, 128)

SLOTS: Final = 256
NAME_BYTES: Final = 64
UNNAMED: Final = 0
OTHERS_SLOT: Final = SLOTS - 1
OTHERS: Final = "(others)"

NS_PER_S: Final = 1_000_000_000

CELL_BYTES: Final = 8


class Gauge(IntEnum):
    """What a worker says of itself; wiped when it starts."""

    PID = 0
    BEAT_AT_S = auto()  # unix time at which its event loop last came round
    LINK = auto()  # 0 unknown, 1 up, else 2 + the number of its LookupFault
    CATALOG_VERSION = auto()
    CATALOG_SEEN_AT_S = auto()  # unix time at which the store last confirmed the catalog
    IS_CATALOG_CONFIRMED = auto()  # as lately as a bid may be answered by it
    IN_FLIGHT = auto()
    CONNECTIONS = auto()
    IS_DRAINING = auto()
    IS_LISTENING = auto()  # accepts connections; one that is to succeed another waits until ready
    CACHE_ENTRIES = auto()
    CACHE_BYTES = auto()
    HAS_ENRICHED = auto()  # could, at least once
    IS_STOPPING = auto()  # the supervisor's word: every answer is its connection's last


class Where(StrEnum):
    """Where a bug was caught that cost one request its segments, one callback, or one look."""

    ASK = "ask"
    ANSWER = "answer"
    FORM = "form"
    LOOKUP = "lookup"
    HTTP = "http"
    LOOP = "loop"
    CATALOG = "catalog"


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
    TRANSFER_CODING = "transfer_coding"


class SeenResult(StrEnum):
    """What became of an id that was to be remembered; see `rtb.server.seen_recorder`."""

    REMEMBERED = "remembered"
    DROPPED = "dropped"  # too many at once, or the store could not be written


class CacheEvent(StrEnum):
    """
    What became of an id, or an entry, in the near cache; see `rtb.lookup.near_cache.lease.Counts`.
    """

    HITS = "hits"
    SHARED = "shared"
    UNLEASED = "unleased"
    MISSES = "misses"
    RENEWALS = "renewals"
    INVALIDATIONS = "invalidations"
    EVICTIONS = "evictions"


KINDS: Final = tuple(IdentifierKind)
OUTCOMES: Final = tuple(Outcome)
REASONS: Final = tuple(Reason)
ENDINGS: Final = len(OUTCOMES) * len(REASONS)
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
NAMES: Final = REQUESTS + SLOTS * ENDINGS
CELLS: Final = NAMES + SLOTS * NAME_BYTES // CELL_BYTES
COUNTERS_BYTES: Final = -(-CELLS * CELL_BYTES // mmap.PAGESIZE) * mmap.PAGESIZE
