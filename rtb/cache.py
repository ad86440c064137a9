"""
The near cache: what the store has said, kept in process while it can be relied upon.

    ask    kept, and under a lease            answered at once: a hit
           being asked, lately enough         shares that answer
           else                               asked, and kept when the answer comes
    push   a bucket has changed               forgotten (CLIENT TRACKING, by key)
           everything has                     all forgotten

- **An opt-out holds on the first bid after its acknowledgement**, cache or no
  cache. What makes it so is the lease: a writer waits for as long as it lasts
  before it acknowledges. The argument is in `segments.store.caching`; the part
  that is ours follows.
- **Replies and pushes come in one stream, in the order in which the store made
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

A lease is renewed by any reply. Where all are hits, every third of a lease the
person at hand is asked for again beside the answer; there is no other traffic.
A worker without bids renews nothing, and its first bid is not a hit.

The clock also counts while the machine sleeps (CLOCK_BOOTTIME). A virtual
machine that is stopped from outside, and whose clocks stand still meanwhile, can
deceive it: for the length of a lease after it goes on.
"""

import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

import hiredis

from rtb.kept import NOTHING, Kept
from rtb.link import Command, Found, Link, Listener, LookupFault, OnFound
from rtb.lookup import Dial, IsCurrent, Lookup
from segments.store.caching import MS_PER_S, REGISTER_EVERY_S, REGISTERED_S, register_command
from segments.store.keys import BUCKET_PREFIX
from segments.store.reader import Meta

_TRACK: Final[Sequence[Command]] = ((b"HELLO", b"3"), (b"CLIENT", b"TRACKING", b"ON"))
_INVALIDATE: Final = b"invalidate"
_PREFIX_BYTES: Final = len(BUCKET_PREFIX)
_RENEWALS_PER_LEASE: Final = 3


def uptime_s() -> float:
    """Return how long ago the machine was started, the time that it slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Counts:
    """
    How ids fared, since the worker began.

    Each id that was asked for is a hit, shared, unleased or a miss.
    """

    __slots__ = (
        "entries",
        "evictions",
        "hits",
        "invalidations",
        "misses",
        "renewals",
        "shared",
        "total_bytes",
        "unleased",
    )

    def __init__(self) -> None:
        self.hits = 0
        self.shared = 0
        """Answered by a question that was on its way for another bid."""
        self.unleased = 0
        """Kept, and asked for all the same: there was no lease."""
        self.misses = 0
        self.renewals = 0
        """Asked for a second time only to renew the lease."""
        self.invalidations = 0
        """Entries that were forgotten because the store said so."""
        self.evictions = 0
        """Entries that were forgotten to make room."""
        self.entries = 0
        self.total_bytes = 0


class Near(Listener):
    """
    What is kept of what one link's store has said.

    Args:
        ask_store: Asks for ids on that link.
        bucket_bits: Of the store.
        counts: Where it counts.
        on_bug: Called with what a callback raised.
        clock_s: Durations only.
        lease_s: How long the store may have been silent.
        max_bytes: What may be kept.
    """

    __slots__ = (
        "_ask_store",
        "_clock_s",
        "_counts",
        "_flights",
        "_is_over",
        "_kept",
        "_lease_s",
        "_leased_until_s",
        "_on_bug",
        "_registered_at_s",
        "_registered_until_s",
        "_renew_at_s",
        "bucket_bits",
    )

    def __init__(
        self,
        ask_store: Callable[[tuple[bytes, ...], OnFound], None],
        bucket_bits: int,
        counts: Counts,
        on_bug: Callable[[Exception], None],
        *,
        clock_s: Callable[[], float],
        lease_s: float,
        max_bytes: int,
    ) -> None:
        self.bucket_bits = bucket_bits
        self._ask_store = ask_store
        self._counts = counts
        self._on_bug = on_bug
        self._clock_s = clock_s
        self._lease_s = lease_s
        self._kept = Kept(max_bytes, bucket_bits)
        self._flights: dict[bytes, _Flight] = {}
        self._is_over = False
        self._leased_until_s = 0.0
        self._renew_at_s = 0.0
        self._registered_at_s = 0.0
        self._registered_until_s = 0.0

    def ask(self, ids: tuple[bytes, ...], on_found: OnFound) -> None:
        """Find out what the store holds of these ids, as `Lookup.ask` does."""
        now_s = self._clock_s()
        is_leased = now_s < self._leased_until_s
        found: list[bytes | None] = []
        gather: _Gather | None = None
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
                gather = _Gather(found, on_found)
            found.append(None)
            self._join(id_, now_s, record is not None, gather.part(n))
        if gather is not None:
            gather.all_asked()
            return
        if now_s >= self._renew_at_s:
            self._counts.renewals += 1
            self._send(ids[0], now_s)
        on_found(found)

    def _join(self, id_: bytes, now_s: float, is_kept: bool, on_found: OnFound) -> None:
        """Share the answer that is on its way for an id, or ask."""
        flight = self._flights.get(id_)
        if flight is not None and now_s < flight.shared_until_s:
            self._counts.shared += 1
            flight.waiters.append(on_found)
            return
        if is_kept:
            self._counts.unleased += 1
        else:
            self._counts.misses += 1
        self._send(id_, now_s, on_found)

    def _send(self, id_: bytes, now_s: float, on_found: OnFound | None = None) -> None:
        flight = _Flight(self, id_, now_s, self._lease_from(now_s))
        if on_found is not None:
            flight.waiters.append(on_found)
        self._flights[id_] = flight
        self._renew_at_s = now_s + self._lease_s / _RENEWALS_PER_LEASE
        self._ask_store((id_,), flight)

    def land(self, flight: "_Flight", answer: Found | LookupFault) -> None:
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
            until_s = self._lease_from(flight.asked_at_s)
            self._leased_until_s = max(self._leased_until_s, until_s)
        for on_found in flight.waiters:
            try:
                on_found(answer)
            except Exception as bug:  # noqa: BLE001 - one request's bug is not the others'
                self._on_bug(bug)

    def _lease_from(self, asked_at_s: float) -> float:
        """Return until when the answer to a question may stand for the store."""
        if asked_at_s <= self._registered_at_s:
            return 0.0
        return min(asked_at_s + self._lease_s, self._registered_until_s)

    def registered(self, sent_at_s: float, now_s: float) -> None:
        """Note that the store knows of us, by a command that was sent at `sent_at_s`."""
        if now_s >= self._registered_until_s:
            # Writers that did not find us may have acknowledged until now.
            self._registered_at_s = now_s
        self._registered_until_s = sent_at_s + REGISTERED_S

    @property
    def is_due(self) -> bool:
        """Whether it is time to register again."""
        return self._clock_s() >= self._registered_until_s - (REGISTERED_S - REGISTER_EVERY_S)

    def pushed(self, push: list[object]) -> None:
        """Forget what the store says has changed."""
        if push[0] != _INVALIDATE:
            return
        names = push[1]
        if not isinstance(names, list):
            # All of it, and with it that we are registered.
            self._counts.invalidations += len(self._kept)
            self._registered_until_s = self._leased_until_s = 0.0
            self._kept.clear()
        else:
            for name in names:
                if name.startswith(BUCKET_PREFIX):
                    self._counts.invalidations += self._kept.drop(int(name[_PREFIX_BYTES:], 16))
        self._weigh()

    def ended(self) -> None:
        """Forget everything: what changes from now on, nobody will tell us."""
        self._is_over = True
        self._registered_until_s = self._leased_until_s = 0.0
        self._kept.clear()
        self._weigh()

    def _weigh(self) -> None:
        counts, kept = self._counts, self._kept
        counts.entries = len(kept)
        counts.total_bytes = kept.total_bytes
        counts.evictions += kept.evictions
        kept.evictions = 0


class _Flight:
    """A question for one id on its way, and who waits for the answer."""

    __slots__ = ("_near", "asked_at_s", "id_", "shared_until_s", "waiters")

    def __init__(self, near: Near, id_: bytes, asked_at_s: float, shared_until_s: float) -> None:
        self._near = near
        self.id_ = id_
        self.asked_at_s = asked_at_s
        self.shared_until_s = shared_until_s
        self.waiters: list[OnFound] = []

    def __call__(self, answer: Found | LookupFault) -> None:
        self._near.land(self, answer)


class _Gather:
    """The answers to one bid's ids that come one by one, for who wants them together."""

    __slots__ = ("_fault", "_found", "_left", "_on_found")

    def __init__(self, found: list[bytes | None], on_found: OnFound) -> None:
        self._found = found
        self._on_found = on_found
        self._fault: LookupFault | None = None
        self._left = 1  # until all have been asked for: some are answered before

    def part(self, n: int) -> "_Part":
        self._left += 1
        return _Part(self, n)

    def take(self, n: int, answer: Found | LookupFault) -> None:
        if isinstance(answer, LookupFault):
            self._fault = answer
        else:
            self._found[n] = answer[0]
        self.all_asked()

    def all_asked(self) -> None:
        self._left -= 1
        if not self._left:
            self._on_found(self._found if self._fault is None else self._fault)


class _Part:
    """The place of one id among those of its bid."""

    __slots__ = ("_gather", "_n")

    def __init__(self, gather: _Gather, n: int) -> None:
        self._gather = gather
        self._n = n

    def __call__(self, answer: Found | LookupFault) -> None:
        self._gather.take(self._n, answer)


class CachingLookup(Lookup):
    """
    A lookup with a cache before it, where the store can tell of its changes.

    Args:
        max_bytes: What may be kept, as `Kept` counts.
        lease_ms: How long an answer may be taken for the present state of the
            store; also how long whoever writes an opt-out waits.
        clock_s: Durations only.
        dial, greeting, rng, on_round_trip, on_bug, probe_s, max_waiting, is_current: See
            `Lookup`.
    """

    def __init__(
        self,
        dial: Dial,
        greeting: Sequence[Command],
        *,
        max_bytes: int,
        lease_ms: int,
        rng: Random,
        on_round_trip: Callable[[int], None],
        on_bug: Callable[[Exception], None],
        clock_s: Callable[[], float] = uptime_s,
        probe_s: float = 0.5,
        max_waiting: int = 20_000,
        is_current: IsCurrent | None = None,
    ) -> None:
        super().__init__(
            dial,
            greeting,
            rng=rng,
            on_round_trip=on_round_trip,
            on_bug=on_bug,
            probe_s=probe_s,
            max_waiting=max_waiting,
            is_current=is_current,
        )
        self.counts = Counts()
        self.refusal = ""
        """The code of the store's error, if it does not tell of its changes: nothing is kept."""
        self._max_bytes = max_bytes
        self._lease_s = lease_ms / MS_PER_S
        self._register = register_command(lease_ms)
        self._clock_s = clock_s
        self._near: Near | None = None

    def ask(self, ids: tuple[bytes, ...], on_found: OnFound) -> None:
        """Ask what the store holds of these ids, as `Lookup.ask`, if it is not known."""
        near = self._near
        if near is None:
            super().ask(ids, on_found)
        else:
            near.ask(ids, on_found)

    def _ask_store(self, ids: tuple[bytes, ...], on_found: OnFound) -> None:
        super().ask(ids, on_found)

    async def _greeted(self, link: Link, meta: Meta) -> None:
        self._near = None
        near = self._near_of(link, meta)
        asked_at_s = self._clock_s()
        if self._is_told(await link.call((*_TRACK, self._register))):
            near.registered(asked_at_s, self._clock_s())
            self._near = near

    async def _probed(self, link: Link, meta: Meta) -> None:
        near = self._near
        if near is None:
            # It could not be told of us; a store that refuses to write may do so again.
            await self._greeted(link, meta)
            return
        if near.bucket_bits != meta.bucket_bits:
            # Another store, in other buckets; what is on its way belongs to the old one.
            near.ended()
            near = self._near = self._near_of(link, meta)
        if near.is_due:
            asked_at_s = self._clock_s()
            if self._is_told(await link.call((self._register,))):
                near.registered(asked_at_s, self._clock_s())

    def _near_of(self, link: Link, meta: Meta) -> Near:
        near = Near(
            self._ask_store,
            meta.bucket_bits,
            self.counts,
            self._on_bug,
            clock_s=self._clock_s,
            lease_s=self._lease_s,
            max_bytes=self._max_bytes,
        )
        link.listener = near
        return near

    def _is_told(self, replies: Sequence[object]) -> bool:
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                self.refusal = str(reply).partition(" ")[0]
                return False
        self.refusal = ""
        return True
