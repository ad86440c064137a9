"""
What one server has said, kept in process while it can be relied upon.

    ask    kept, and under a lease            answered at once: a hit
           being asked, lately enough         shares that answer
           else                               asked, and kept when the answer comes
    push   a bucket has changed               forgotten (CLIENT TRACKING, by key)
           everything has                     all forgotten

- **An opt-out holds on the first bid after its acknowledgement**, cache or no
  cache. What makes it so is the lease: a writer waits for as long as it lasts
  before it acknowledges. The argument is in `segments.store.cache_lease`; the part
  that is ours follows.
- **Replies and pushes come in one stream, in the order in which the server made
  them.** So a reply proves that every push of a change before it has been heard:
  a lease counts from when the question *was sent*. A reply from before a change
  is kept and then dropped by the push; one from behind it is new. It follows that
  ids are asked for one by one: replies that are held until those of the other
  ids of a bid have come too could be kept after the push that concerns them.
- **To share an answer is to cache it.** A question that is on its way may have
  been executed before a change that was acknowledged since; it is shared only by
  who could be answered from what is kept if it had come back at once.
- **What is kept belongs to one link** and is gone with it. Another link may lead
  to another server, or to the same with a gap of things unheard between them.

A lease is renewed by any reply. Where all are hits, every third of a lease the person at
hand is asked for again beside the answer; there is no other traffic. A worker without
bids renews nothing, and its first bid is not a hit.

The argument is of one server. In a Cluster a write may go to another node, to which the
slot has moved, and of which ours tells nothing; so of a Cluster nothing is kept.
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
"""What a link says first whose server is to tell of its changes."""

_INVALIDATE: Final = b"invalidate"
_PREFIX_BYTES: Final = len(BUCKET_PREFIX)
_RENEWALS_PER_LEASE: Final = 3

AskStore = Callable[[bytes, "Flight"], None]


@dataclass(frozen=True)
class NearCacheOptions:
    """What a near cache is made of, for one link."""

    ask_store: AskStore
    """Asks for an id on that link, and lands the flight."""

    bucket_bits: int
    """Of the store."""

    limits: CacheLimits

    registration: Registration
    """Whether the store knows of us."""

    counts: Counts
    """Where the cache counts."""

    on_bug: Callable[[Exception], None]
    """Called with what a callback raised."""

    clock_s: Callable[[], float]
    """Durations only."""


class NearCache(Listener):
    """What is kept of what one link's server has said."""

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
        """Find out what the server holds of these ids, as `Lookup.ask` does."""
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
        """Tell whether the answer to a question may stand for the present state of the store."""
        registration = self.registration
        return (
            now_s < asked_at_s + self._lease_s
            and registration.at_s < asked_at_s
            and now_s < registration.until_s
        )

    def _join(self, id_: bytes, now_s: float, is_kept: bool, on_found: OnFound) -> None:
        """Share the answer that is on its way for an id, or ask."""
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
        """Keep an answer, renew the lease, and tell who waits for it."""
        id_ = flight.id_
        if self._flights.get(id_) is flight:
            del self._flights[id_]
        if not isinstance(answer, LookupFault) and not self._is_over:
            record = answer[0]
            # An empty record is a broken one, and not to be taken for nothing.
            if record != b"":
                self._kept.put(id_, NOTHING if record is None else record)
                self._weigh()
            self._vouched_at_s = max(self._vouched_at_s, flight.asked_at_s)
        for on_found in flight.waiters:
            try:
                on_found(answer)
            except Exception as bug:  # noqa: BLE001 - one request's bug is not the others'
                self._on_bug(bug)

    def pushed(self, push: list[object]) -> None:
        """Forget what the server says has changed."""
        if push[0] != _INVALIDATE:
            return
        names = push[1]
        if not isinstance(names, list):
            # All of it, and with it maybe that we are registered.
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
        """Forget everything: what changes from now on, nobody will tell us."""
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
    """A question for one id on its way, and who waits for the answer."""

    __slots__ = ("_near", "asked_at_s", "id_", "waiters")

    def __init__(self, near: NearCache, id_: bytes, asked_at_s: float) -> None:
        self._near = near
        self.id_ = id_
        self.asked_at_s = asked_at_s
        self.waiters: list[OnFound] = []

    def __call__(self, answer: Found | LookupFault) -> None:
        """Take what came; an `OnFound`."""
        self._near.land(self, answer)
