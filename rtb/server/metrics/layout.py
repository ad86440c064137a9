"""
The vocabulary of the workers' counters, and the cell of each.

    | gauges | counters | histograms | requests: slot x ending | names of slots | texts |

Requests are counted by recipient, outcome and reason. Counters name each recipient's slot, so
readers need no catalog; the last slot takes all others.

Request times are counted once, by protocol, route and status, in fine buckets: every exported
histogram is a sum of neighbours.

Labels are closed lists and configured names, never text of a request.
`rtb.server.metrics.shared_counters` does the counting.
"""

import mmap
from collections.abc import Mapping, Sequence
from enum import IntEnum, StrEnum, auto
from typing import Final

from rtb.lookup.link import LookupFault
from rtb.outcome import Outcome, Reason
from segments.model.identity import IdentifierKind

SECONDS_EDGES: Final[Sequence[float]] = (
    0.00005, 0.0001, 0.00015, 0.00025, 0.0005, 0.001, 0.0025,
    0.005, 0.01, 0.015, 0.02, 0.025, 0.05,
)  # fmt: skip
"""
Buckets of every histogram of seconds: hosts' budgets, values around them, and usual times without
the store.
"""

HOST_SECONDS_EDGES: Final[Sequence[float]] = (0.0025, 0.005, 0.01, 0.025, 0.05)
"""
The only buckets that Index Exchange wants of `http.server.request.duration`
(kb.indexexchange.com/rti_providers/guidelines_containers.htm).
"""

PROTOCOLS: Final = ("1.1", "2")
"""Versions of HTTP, as in OpenTelemetry's `network.protocol.version`."""

CALLS: Final = "/RTBExtensionPoint/GetMutations"
ROUTES: Final = {
    "/openrtb2/enrich": "POST",
    "/openrtb2/patch": "POST",
    "/openrtb25": "POST",
    "/curation": "POST",
    "/v2/targeting": "GET",
    CALLS: "POST",
}
"""
Paths of the answer forms (rtb.server.answer_forms) without the recipient, each with its method.
Last, gRPC calls (rtb.server.calls), without their service's package.
"""

STATUSES: Final = (200, 204, 400)
"""The status of a bid's answer: segments or the request, nothing, malformed."""

WELL: Final = (200, 204)

BATCH_EDGES: Final[Sequence[float]] = (1, 2, 4, 8, 16, 32, 64, 128)

SLOTS: Final = 256
NAME_BYTES: Final = 64
SAID_BYTES: Final = 256
UNNAMED: Final = 0
OTHERS_SLOT: Final = SLOTS - 1
OTHERS: Final = "(others)"

NS_PER_S: Final = 1_000_000_000

CELL_BYTES: Final = 8


class Gauge(IntEnum):
    """A worker's state; wiped at its start."""

    PID = 0
    BEAT_AT_S = auto()  # monotonic time of the event loop's last beat
    LINK = auto()  # 0 unknown, 1 up, else 2 + the number of its LookupFault
    CATALOG_VERSION = auto()
    CATALOG_SEEN_AT_S = auto()  # unix time at which the store last confirmed the catalog
    IS_CATALOG_CONFIRMED = auto()  # recently enough for bids to use it
    IN_FLIGHT = auto()
    CONNECTIONS = auto()
    IS_DRAINING = auto()
    IS_LISTENING = auto()  # accepts connections; a successor does so only once it is ready
    CACHE_ENTRIES = auto()
    CACHE_BYTES = auto()
    HAS_ENRICHED = auto()  # was able to, at least once
    IS_UNFILLED = auto()  # the store came back empty and is not filled yet
    IS_STOPPING = auto()  # set by the supervisor: every answer is its connection's last


class Said(IntEnum):
    """A worker's texts."""

    STORE_REFUSAL = 0  # to the link: the store's error code, and the refused command
    CATALOG_REFUSAL = auto()  # to the catalog follower, likewise
    UNASKED_NODES = auto()  # of a Cluster, while the others are asked


class Where(StrEnum):
    """
    The place of a caught bug; it ended a callback, a poll or an explanation, or cost a
    request its segments.
    """

    ASK = "ask"
    ANSWER = "answer"
    FORM = "form"
    LOOKUP = "lookup"
    HTTP = "http"
    LOOP = "loop"
    CATALOG = "catalog"
    EXPLAIN = "explain"


class Refusal(StrEnum):
    """HTTP's reasons to refuse a request; also `X-Enrich-Error`."""

    BAD_HTTP = "bad_http"
    UNKNOWN_PATH = "unknown_path"
    UNKNOWN_RECIPIENT = "unknown_recipient"
    NO_TOKEN = "no_token"  # noqa: S105 - a word of the list
    UNKNOWN_TOKEN = "unknown_token"  # noqa: S105 - a word of the list
    OTHER_TOKEN = "other_token"  # noqa: S105 - a word of the list
    NO_CERTIFICATE = "no_certificate"
    OTHER_CERTIFICATE = "other_certificate"
    NOT_POST = "not_post"
    NOT_GET = "not_get"
    TOO_SLOW = "too_slow"
    BODY_TOO_LARGE = "body_too_large"
    HEAD_TOO_LARGE = "head_too_large"
    CONTENT_TYPE = "content_type"
    EXPECTATION = "expectation"
    TRANSFER_CODING = "transfer_coding"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    TOO_MANY_UNFINISHED = "too_many_unfinished"
    OVER_BUDGET = "over_budget"
    FLOOD = "flood"


REFUSAL_STATUS: Final[Mapping[Refusal, int]] = {
    Refusal.BAD_HTTP: 400,
    Refusal.CONTENT_TYPE: 400,
    Refusal.NO_TOKEN: 401,
    Refusal.UNKNOWN_TOKEN: 401,
    Refusal.OTHER_TOKEN: 403,
    Refusal.NO_CERTIFICATE: 401,
    Refusal.OTHER_CERTIFICATE: 403,
    Refusal.UNKNOWN_PATH: 404,
    Refusal.UNKNOWN_RECIPIENT: 404,
    Refusal.NOT_POST: 405,
    Refusal.NOT_GET: 405,
    Refusal.TOO_SLOW: 408,
    Refusal.BODY_TOO_LARGE: 413,
    Refusal.EXPECTATION: 417,
    Refusal.HEAD_TOO_LARGE: 431,
    Refusal.TRANSFER_CODING: 501,
    Refusal.TOO_MANY_CONNECTIONS: 503,
    Refusal.TOO_MANY_UNFINISHED: 503,
}


class SeenResult(StrEnum):
    """The result for an id to remember; see `rtb.server.seen_recorder`."""

    REMEMBERED = "remembered"
    DROPPED = "dropped"  # too many at once, or the store can't be written


class CacheEvent(StrEnum):
    """
    Events of ids and entries in the near cache; see `rtb.lookup.near_cache.lease.Counts`.
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


# The first cell of each table.
_GAUGES: Final = 0
TIMING_CELLS: Final = len(SECONDS_EDGES) + 2
"""A histogram of seconds: buckets, that without an upper edge, and the sum in ns."""

SERIES: Final = tuple(
    (protocol, route, status) for protocol in PROTOCOLS for route in ROUTES for status in STATUSES
)
SECONDS: Final = _GAUGES + len(Gauge)
WAIT: Final = SECONDS + len(SERIES) * TIMING_CELLS
BATCH: Final = WAIT + TIMING_CELLS
BATCH_SUM: Final = BATCH + len(BATCH_EDGES) + 1
IDS: Final = BATCH_SUM + 1
"""Two cells for each kind: ids without a record, and ids with a record."""
STORE_FAULTS: Final = IDS + 2 * len(KINDS)
BUGS: Final = STORE_FAULTS + len(FAULTS)
REFUSED: Final = BUGS + len(Where)
SEEN: Final = REFUSED + len(Refusal)
CACHE: Final = SEEN + len(SeenResult)
REQUESTS: Final = CACHE + len(CacheEvent)
NAMES: Final = REQUESTS + SLOTS * ENDINGS
SAID: Final = NAMES + SLOTS * NAME_BYTES // CELL_BYTES
CELLS: Final = SAID + len(Said) * SAID_BYTES // CELL_BYTES
COUNTERS_BYTES: Final = -(-CELLS * CELL_BYTES // mmap.PAGESIZE) * mmap.PAGESIZE


def timings_of(protocol: str, route: str) -> tuple[int, int, int]:
    """Return the first cell of a route's histogram for each of `STATUSES`."""
    ok, nothing, malformed = (
        SECONDS + SERIES.index((protocol, route, status)) * TIMING_CELLS for status in STATUSES
    )
    return ok, nothing, malformed
