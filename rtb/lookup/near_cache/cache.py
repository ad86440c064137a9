"""
One server's answers, kept in process while they are reliable.

    ask    kept, and under a lease            answered at once: a hit
           asked recently enough              shares that answer
           else                               asked, and kept when the answer comes
    push   a bucket has changed               forgotten (CLIENT TRACKING, by key)
           everything has changed             all forgotten

- **An opt-out holds from the first bid after its acknowledgement**, with or without a cache:
  writers wait for the lease before they acknowledge. `segments.store.cache_lease` has the argument;
  the worker's part follows.
- **Replies and pushes come in one stream, in the order in which the server made them.** A reply
  proves that all pushes of earlier changes have arrived: a lease counts from when the question *was
  sent*. A push drops earlier replies; later ones are current. So ids are asked separately: a reply
  held back for a bid's other ids could be kept after the push that should drop it.
- **To share an answer is to cache it.** A pending question may have been executed before a change
  acknowledged since. A bid joins only while an answer sent with the question would still be within
  the lease.
- **The cache belongs to one link** and ends with it: a new link may lead to another server, or have
  missed changes.

Any reply renews the lease. If a bid's ids are all hits, its first id is asked again every third of
a lease. A worker without bids renews nothing.

A Cluster's answers are not kept: after a slot moves, the new node's writes are not pushed to the
old node's link.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from rtb.lookup.gather import Gather
from rtb.lookup.link import Command, Found, Listener, LookupFault, OnFound
from rtb.lookup.near_cache.lease import CacheLimits, Counts, Registration
from rtb.lookup.near_cache.records import NOTHING, RecordCache
from segments.store.keys import BUCKET_PREFIX

TRACK: Final[Sequence[Command]] = ((b"HELLO", b"3"), (b"CLIENT", b"TRACKING", b"ON"))
"""The first commands on a link that gets pushes."""

_INVALIDATE: Final = b"invalidate"
_PREFIX_BYTES: Final = len(BUCKET_PREFIX)
_RENEWALS_PER_LEASE: Final = 3

AskStore = Callable[[bytes, "Flight"], None]


@dataclass(frozen=True)
class NearCacheOptions:
    """The parts of a link's near cache."""

    ask_store: AskStore
    """Asks for an id on that link, for the flight."""

    bucket_bits: int
    """Of the store."""

    limits: CacheLimits

    registration: Registration
    """At the store."""

    counts: Counts
    """To update."""

    on_bug: Callable[[Exception], None]
    """Called with a callback's exception."""

    clock_s: Callable[[], float]
    """Any origin; only durations are used."""


class NearCache(Listener):
    """The kept answers of a link's server."""

    __slots__ = (
        "_ask_store",
        "_clock_s",
        "_counts",
        "_flights",
        "_is_over",
        "_kept",
        "_lease_s",
        "_on_bug",
        "_renew_at_s",
        "_shown_bytes",
        "_shown_entries",
        "_vouched_at_s",
        "bucket_bits",
        "registration",
    )

    def __init__(self, options: NearCacheOptions) -> None:
        self.bucket_bits = options.bucket_bits
        self.registration = options.registration
        self._ask_store = options.ask_store
        self._counts = options.counts
        self._on_bug = options.on_bug
        self._clock_s = options.clock_s
        self._lease_s = options.limits.lease_s
        self._kept = RecordCache(options.limits.max_bytes, options.bucket_bits)
        self._flights: dict[bytes, Flight] = {}
        self._is_over = False
        self._vouched_at_s = 0.0
        self._renew_at_s = 0.0
        self._shown_bytes = 0
        self._shown_entries = 0

    def ask(self, ids: tuple[bytes, ...], on_found: OnFound) -> None:
        """Look up the records of these ids; see `Lookup.ask`."""
        now_s = self._clock_s()
        is_leased = self._stands(self._vouched_at_s, now_s)
        found: list[bytes | None] = []
        gather: Gather | None = None
        for n, id_ in enumerate(ids):
            record = self._kept.get(id_)
            if record is not None and is_leased:
                self._counts.hits += 1
                found.append(record or None)
                continue
            if len(ids) == 1:
                self._join(id_, now_s, record is not None, on_found)
                return
            if gather is None:
                gather = Gather(found, on_found)
            found.append(None)
            self._join(id_, now_s, record is not None, gather.part(n))
        if gather is not None:
            gather.all_asked()
            return
        if now_s >= self._renew_at_s:
            self._counts.renewals += 1
            self._send(ids[0], now_s)
        on_found(found)

    def _stands(self, asked_at_s: float, now_s: float) -> bool:
        """Tell whether the answer to a question sent at `asked_at_s` is usable now."""
        registration = self.registration
        return (
            now_s < asked_at_s + self._lease_s
            and registration.at_s < asked_at_s
            and now_s < registration.until_s
        )

    def _join(self, id_: bytes, now_s: float, is_kept: bool, on_found: OnFound) -> None:
        flight = self._flights.get(id_)
        if flight is not None and self._stands(flight.asked_at_s, now_s):
            self._counts.shared += 1
            flight.waiters.append(on_found)
            return
        if is_kept:
            self._counts.unleased += 1
        else:
            self._counts.misses += 1
        self._send(id_, now_s, on_found)

    def _send(self, id_: bytes, now_s: float, on_found: OnFound | None = None) -> None:
        self._renew_at_s = now_s + self._lease_s / _RENEWALS_PER_LEASE
        flight = Flight(self, id_, now_s)
        if on_found is not None:
            flight.waiters.append(on_found)
        self._flights[id_] = flight
        self._ask_store(id_, flight)

    def land(self, flight: "Flight", answer: Found | LookupFault) -> None:
        """Keep an answer, renew the lease, and call back every waiter."""
        id_ = flight.id_
        if self._flights.get(id_) is flight:
            del self._flights[id_]
        if not isinstance(answer, LookupFault) and not self._is_over:
            record = answer[0]
            # An empty record is broken; not `NOTHING`.
            if record != b"":
                self._kept.put(id_, NOTHING if record is None else record)
                self._weigh()
            self._vouched_at_s = max(self._vouched_at_s, flight.asked_at_s)
        for on_found in flight.waiters:
            try:
                on_found(answer)
            except Exception as bug:  # noqa: BLE001 - the other waiters must be called too
                self._on_bug(bug)

    def pushed(self, push: list[object]) -> None:
        """Forget the bucket or the buckets that have changed."""
        if push[0] != _INVALIDATE:
            return
        names = push[1]
        if not isinstance(names, list):
            # Perhaps our registration was flushed, too.
            self.registration.void()
            self._counts.invalidations += len(self._kept)
            self._kept.clear()
            self._weigh()
            return
        for name in names:
            if name.startswith(BUCKET_PREFIX):
                self._counts.invalidations += self._kept.drop(int(name[_PREFIX_BYTES:], 16))
        self._weigh()

    def ended(self) -> None:
        """Forget everything: no more pushes."""
        self._is_over = True
        self._kept.clear()
        self._weigh()

    def _weigh(self) -> None:
        counts, kept = self._counts, self._kept
        entries = len(kept)
        counts.entries += entries - self._shown_entries
        counts.total_bytes += kept.total_bytes - self._shown_bytes
        self._shown_entries, self._shown_bytes = entries, kept.total_bytes
        counts.evictions += kept.evictions
        kept.evictions = 0


class Flight:
    """An id's pending question, and its waiters."""

    __slots__ = ("_near", "asked_at_s", "id_", "waiters")

    def __init__(self, near: NearCache, id_: bytes, asked_at_s: float) -> None:
        self._near = near
        self.id_ = id_
        self.asked_at_s = asked_at_s
        self.waiters: list[OnFound] = []

    def __call__(self, answer: Found | LookupFault) -> None:
        """Take the answer; an `OnFound`."""
        self._near.land(self, answer)
