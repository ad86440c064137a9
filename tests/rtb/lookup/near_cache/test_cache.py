"""
The near cache by itself: lease, order and sharing, with a store and a clock that do as told.

The last two tests put the argument of `segments.store.cache_lease` to many orders of
events, drawn at random with weights: drawn evenly, as hypothesis does, so few of
them come near a stale answer that leaving the wait out went unnoticed.
"""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, ClassVar

import pytest

from rtb.lookup.link import Found, LookupFault, OnFound
from rtb.lookup.near_cache.cache import NearCache, NearCacheOptions
from rtb.lookup.near_cache.lease import CacheLimits, Counts, Registration
from segments.store.cache_lease import MAX_LEASE_MS, REGISTERED_S
from segments.store.keys import bucket_key, bucket_of

BITS = 4
LEASE_MS = 20
LEASE_S = LEASE_MS / 1000
ADA, BOB, CYD = (bytes([n]) * 16 for n in (0x01, 0x02, 0xF3))
"""Ada and Bob share a bucket; Cyd has another."""


class Store:
    """
    A store at the far end of a slow link: it executes, and is heard, when told to.
    """

    def __init__(self) -> None:
        self.id_to_record: dict[bytes, bytes] = {}
        self.is_registered = False
        self.sent: deque[tuple[bytes, OnFound] | Callable[[], None]] = deque()
        self._stream: deque[Callable[[], None]] = deque()
        self._tracked: set[int] = set()
        self.near: NearCache

    def ask(self, id_: bytes, on_found: OnFound) -> None:
        self.sent.append((id_, on_found))

    def register(self, on_registered: Callable[[], None]) -> None:
        self.sent.append(on_registered)

    def execute(self) -> None:
        """Do what was sent first."""
        command = self.sent.popleft()
        if not isinstance(command, tuple):
            self.is_registered = True
            self._stream.append(command)
            return
        id_, on_found = command
        self._tracked.add(bucket_of(id_, BITS))
        record = self.id_to_record.get(id_)
        self._stream.append(lambda: on_found([record]))

    def write(self, id_: bytes, record: bytes) -> None:
        self.id_to_record[id_] = record
        bucket = bucket_of(id_, BITS)
        if bucket in self._tracked:
            self._tracked.discard(bucket)
            self._push([bucket_key(bucket)])

    def flush_all(self) -> None:
        self.id_to_record.clear()
        self._tracked.clear()
        self.is_registered = False
        self._push(None)

    def _push(self, names: list[bytes] | None) -> None:
        near = self.near
        self._stream.append(lambda: near.pushed([b"invalidate", names]))

    @property
    def is_heard(self) -> bool:
        return not self._stream

    def deliver(self) -> None:
        """Let the worker hear what the store said first."""
        self._stream.popleft()()

    def settle(self) -> None:
        """Do and deliver everything."""
        while self.sent:
            self.execute()
        while self._stream:
            self.deliver()

    def lose(self) -> None:
        """End the link: what is under way is lost."""
        self.near.ended()
        for command in self.sent:
            if isinstance(command, tuple):
                command[1](LookupFault.LOST)
        self.sent.clear()
        self._stream.clear()
        self._tracked.clear()


class CachedStore:
    """A store, a near cache that it knows of, and a clock."""

    def __init__(self, max_bytes: int = 1_000_000) -> None:
        self.now_s = 1000.0
        self.store = Store()
        self.counts = Counts()
        self.bugs: list[Exception] = []
        self._max_bytes = max_bytes
        self.connect()

    def connect(self) -> None:
        self.near = self.store.near = NearCache(
            NearCacheOptions(
                ask_store=self.store.ask,
                bucket_bits=BITS,
                limits=CacheLimits(self._max_bytes, LEASE_MS),
                registration=Registration(REGISTERED_S),
                counts=self.counts,
                on_bug=self.bugs.append,
                clock_s=lambda: self.now_s,
            )
        )

    def register(self) -> None:
        near, sent_at_s = self.near, self.now_s
        self.store.register(lambda: near.registration.confirm(sent_at_s, self.now_s))

    def ask(self, *ids: bytes) -> list[Any]:
        """Ask; what is returned is filled when the answer comes."""
        answers: list[Any] = []

        def take(answer: Found | LookupFault) -> None:
            answers.append(answer if isinstance(answer, LookupFault) else list(answer))

        self.near.ask(ids, take)
        return answers


@pytest.fixture
def world() -> CachedStore:
    world = CachedStore()
    world.store.id_to_record = {ADA: b"ada", CYD: b"cyd"}
    world.register()
    world.store.settle()
    world.now_s += 1e-6
    return world


def warm(world: CachedStore, *ids: bytes) -> None:
    for id_ in ids:
        world.ask(id_)
    world.store.settle()


def test_second_question_is_answered_at_once(world: CachedStore) -> None:
    warm(world, ADA)

    assert world.ask(ADA) == [[b"ada"]]
    assert not world.store.sent
    assert (world.counts.misses, world.counts.hits) == (1, 1)


def test_id_that_the_store_does_not_know_is_kept_as_such(world: CachedStore) -> None:
    warm(world, BOB)

    assert world.ask(BOB) == [[None]]


def test_empty_record_is_not_kept(world: CachedStore) -> None:
    """
    It is a broken one; kept, it would read as none, and who said no be shown.
    """
    world.store.id_to_record[BOB] = b""
    warm(world, BOB)

    answer = world.ask(BOB)
    world.store.settle()

    assert answer == [[b""]]
    assert world.counts.hits == 0


def test_lease_counts_from_when_the_question_was_sent(world: CachedStore) -> None:
    world.ask(ADA)
    world.now_s += LEASE_S * 0.9
    world.store.settle()
    world.ask(CYD)

    assert world.ask(ADA) == [[b"ada"]]
    world.now_s += LEASE_S * 0.11
    assert world.ask(ADA) == []
    assert world.counts.unleased == 1


def test_answer_that_took_longer_than_a_lease_gives_none(world: CachedStore) -> None:
    world.ask(ADA)
    world.now_s += LEASE_S * 2
    world.store.settle()

    assert world.ask(ADA) == []


def test_hits_renew_the_lease_by_asking_again_beside_the_answer(world: CachedStore) -> None:
    warm(world, ADA)
    for _ in range(20):
        world.now_s += LEASE_S * 0.4
        assert world.ask(ADA) == [[b"ada"]]
        world.store.settle()

    assert world.counts.hits == world.counts.renewals == 20


def test_change_is_seen_once_its_push_was_heard(world: CachedStore) -> None:
    warm(world, ADA, CYD)
    world.store.write(BOB, b"bob")
    world.store.settle()

    answer = world.ask(BOB, ADA)
    world.store.settle()

    assert answer == [[b"bob", b"ada"]]
    assert world.counts.invalidations == 1  # Ada, of Bob's bucket
    assert world.ask(CYD) == [[b"cyd"]]


def test_reply_from_before_a_change_is_not_kept_beyond_it(world: CachedStore) -> None:
    """
    Also where a bid asks for two ids and the change falls between their replies.
    """
    first = world.ask(ADA, CYD)
    world.store.execute()
    world.store.write(ADA, b"no")
    world.store.settle()

    second = world.ask(ADA)
    world.store.settle()

    assert first == [[b"ada", b"cyd"]]
    assert second == [[b"no"]]


def test_question_behind_a_change_is_kept(world: CachedStore) -> None:
    warm(world, ADA)
    world.store.write(ADA, b"no")
    world.ask(CYD, BOB)
    world.store.settle()

    assert world.ask(BOB) == [[None]]


def test_questions_for_one_id_share_an_answer(world: CachedStore) -> None:
    answers = [world.ask(ADA), world.ask(ADA), world.ask(CYD, ADA)]
    assert len(world.store.sent) == 2
    world.store.settle()

    assert answers == [[[b"ada"]], [[b"ada"]], [[b"cyd", b"ada"]]]
    assert (world.counts.misses, world.counts.shared) == (2, 2)


def test_answer_is_not_shared_with_who_comes_a_lease_later(world: CachedStore) -> None:
    """
    It may have been executed before a change that was acknowledged since.
    """
    early = world.ask(ADA)
    world.store.execute()
    world.store.write(ADA, b"no")
    world.now_s += LEASE_S
    late = world.ask(ADA)
    world.store.settle()

    assert early == [[b"ada"]]
    assert late == [[b"no"]]


def test_nothing_is_answered_from_what_is_kept_before_the_store_knows_of_us() -> None:
    world = CachedStore()
    warm(world, ADA)
    world.register()
    assert world.ask(ADA) == []
    world.store.settle()
    world.now_s += LEASE_S / 2

    assert world.ask(ADA) == []  # the answer to a question from before proves nothing


def test_nothing_is_answered_when_the_registration_may_be_void(world: CachedStore) -> None:
    world.now_s += REGISTERED_S - LEASE_S / 4
    warm(world, ADA)
    assert world.ask(ADA) == [[b"ada"]]

    world.now_s += LEASE_S / 4
    assert world.ask(ADA) == []


def test_registration_counts_from_when_it_was_sent() -> None:
    world = CachedStore()
    world.register()
    world.now_s += REGISTERED_S / 2
    world.store.settle()
    world.now_s += REGISTERED_S / 2
    warm(world, ADA)

    assert world.ask(ADA) == []


def test_emptied_store_empties_the_cache_and_has_to_be_told_of_us_again(world: CachedStore) -> None:
    warm(world, ADA)
    world.store.flush_all()
    world.store.settle()

    assert world.counts.entries == world.counts.total_bytes == 0
    assert world.near.registration.until_s <= world.now_s
    warm(world, ADA)
    assert world.ask(ADA) == []


def test_end_of_the_link_ends_every_question_and_all_that_is_kept(world: CachedStore) -> None:
    warm(world, ADA)
    waiting = world.ask(CYD, BOB)
    shared = world.ask(CYD)
    world.store.lose()

    assert waiting == shared == [LookupFault.LOST]
    assert world.counts.entries == 0


def test_fault_of_one_id_is_its_bids_and_is_not_kept(world: CachedStore) -> None:
    answer = world.ask(ADA, CYD)
    _, on_found = world.store.sent.popleft()  # type: ignore[misc] # a question
    on_found(LookupFault.BAD_REPLY)
    world.store.settle()

    assert answer == [LookupFault.BAD_REPLY]
    assert world.ask(CYD) == [[b"cyd"]]
    assert world.ask(ADA) == []


def test_callback_that_raises_is_reported_and_the_others_are_called(world: CachedStore) -> None:
    def broken(_: object) -> None:
        raise RuntimeError

    world.near.ask((ADA,), broken)
    answer = world.ask(ADA)
    world.store.settle()

    assert answer == [[b"ada"]]
    assert [type(bug) for bug in world.bugs] == [RuntimeError]


def test_room_is_kept_to_and_counted() -> None:
    world = CachedStore(max_bytes=800)
    world.register()
    world.store.settle()
    world.now_s += 1e-6
    warm(world, ADA, BOB, CYD)

    assert 0 < world.counts.total_bytes <= 800
    assert world.counts.entries == 2
    assert world.counts.evictions == 1


class Protocol:
    """
    A worker, a store, writers, and a wire that is as slow as it likes.

    A record is the number of its version. Each bid must be answered by a version
    at least as new as the newest that was acknowledged before the bid came.
    """

    def __init__(self, seed: int, *, writers_wait: bool) -> None:
        self.rng = Random(seed)
        self.writers_wait = writers_wait
        self.world = CachedStore()
        self.version = 0
        self.losses = 0
        self.unlooked: list[tuple[bytes, int]] = []
        self.acknowledged: list[tuple[float, bytes, int]] = []
        self.stale: list[tuple[int, int]] = []

    def walk(self, steps: int) -> None:
        choices = list(self.WEIGHTS)
        for step in self.rng.choices(choices, [self.WEIGHTS[one] for one in choices], k=steps):
            step(self)
        self.world.store.settle()
        assert not self.world.bugs

    def time_passes(self) -> None:
        self.world.now_s += self.rng.randint(1, 12) / 1000

    def much_time_passes(self) -> None:
        self.world.now_s += REGISTERED_S * self.rng.choice([0.3, 0.9999, 1.1])

    def register(self) -> None:
        self.world.register()

    def all_is_done_and_heard(self) -> None:
        self.world.store.settle()

    def store_executes(self) -> None:
        if self.world.store.sent:
            self.world.store.execute()

    def worker_hears(self) -> None:
        if not self.world.store.is_heard:
            self.world.store.deliver()

    def write(self) -> None:
        id_ = self.rng.choice([ADA, BOB, CYD])
        self.version += 1
        self.world.store.write(id_, b"%d" % self.version)
        self.unlooked.append((id_, self.version))

    def writer_looks_who_caches(self) -> None:
        if self.unlooked:
            id_, version = self.unlooked.pop(0)
            must_wait = self.world.store.is_registered and self.writers_wait
            at_s = self.world.now_s + (LEASE_S if must_wait else 0.0)
            self.acknowledged.append((at_s, id_, version))

    def bid(self) -> None:
        now_s, losses = self.world.now_s, self.losses
        ids = tuple(self.rng.choices([ADA, BOB, CYD], k=self.rng.choice([1, 1, 2, 3])))
        due = [
            max(
                (v for at_s, one, v in self.acknowledged if one == id_ and at_s <= now_s), default=0
            )
            for id_ in ids
        ]

        def take(found: Found | LookupFault) -> None:
            # What was in a store that was emptied is nobody's to show any more.
            if not isinstance(found, LookupFault) and self.losses == losses:
                pairs = zip(found, due, strict=True)
                self.stale += [(int(r or 0), v) for r, v in pairs if int(r or 0) < v]

        self.world.near.ask(ids, take)

    def link_is_lost(self) -> None:
        self.world.store.lose()
        self.world.connect()

    def store_is_emptied(self) -> None:
        """What was in it is gone with what was acknowledged, and nobody writes for a while."""
        self.losses += 1
        self.world.store.flush_all()
        self.unlooked.clear()
        self.acknowledged.clear()
        self.world.now_s += MAX_LEASE_MS / 1000

    WEIGHTS: ClassVar = {
        time_passes: 10,
        bid: 20,
        store_executes: 10,
        worker_hears: 10,
        all_is_done_and_heard: 5,
        write: 8,
        writer_looks_who_caches: 10,
        register: 3,
        much_time_passes: 0.5,
        link_is_lost: 0.5,
        store_is_emptied: 0.3,
    }


def test_no_bid_is_answered_by_less_than_was_acknowledged_before_it_came() -> None:
    hits = 0
    for seed in range(1500):
        protocol = Protocol(seed, writers_wait=True)
        protocol.walk(80)
        hits += protocol.world.counts.hits
        assert not protocol.stale, f"seed {seed}"

    assert hits > 3_000


def test_without_the_wait_it_could_be() -> None:
    """
    So the test above can fail, and the wait is needed.
    """
    protocols = [Protocol(seed, writers_wait=False) for seed in range(200)]
    for protocol in protocols:
        protocol.walk(80)

    assert any(protocol.stale for protocol in protocols)
