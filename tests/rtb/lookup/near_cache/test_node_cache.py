"""
The near caches of two nodes between which a slot moves, with nodes and a clock that do as told.

As in `test_cache`, the argument of the module is put to many orders of events, drawn at
random: each bid must be answered by a version at least as new as the newest that was
acknowledged before the bid came, whichever node holds it by now.
"""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import ClassVar

import pytest

from rtb.lookup.link import Found, LookupFault, OnFound, TakesErrors
from rtb.lookup.near_cache.cache import Flight
from rtb.lookup.near_cache.lease import Counts, Registration
from rtb.lookup.near_cache.node_cache import NodeNear
from segments.store.keys import bucket_key, bucket_of, slot_of

BITS = 4
LEASE_S = 0.02
ADA, BOB, CYD = (bytes([n]) * 16 for n in (0x01, 0x21, 0xF3))
"""Ada's and Bob's slots move; Cyd's stays, and her node goes on to answer."""


def slot_of_id(id_: bytes) -> int:
    return slot_of(bucket_key(bucket_of(id_, BITS)))


class Node:
    """One of the two; it executes, and is heard, when told to."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number
        self.epoch = number + 1
        self.slots: set[int] = set()
        self.leaving: set[int] = set()
        self.bucket_to_records: dict[int, dict[bytes, int]] = {}
        self.sent: deque[Callable[[], None]] = deque()
        self.stream: deque[Callable[[], None]] = deque()
        self._tracked: set[int] = set()
        self.near = NodeNear(
            self.ask,
            lambda taker: self.sent.append(lambda: self._claim(taker)),
            BITS,
            world.counts,
            world.bugs.append,
            world.registration,
            clock_s=lambda: world.now_s,
            lease_s=LEASE_S,
            max_bytes=1_000_000,
        )

    def ask(self, id_: bytes, on_found: OnFound, *, asking: bool = False) -> None:
        self.sent.append(lambda: self._find(id_, on_found, asking))

    def words(self) -> bytes:
        """Return what it says of itself in CLUSTER NODES."""
        slots = [b"%d" % slot for slot in sorted(self.slots)]
        slots += [b"[%d->-other]" % slot for slot in sorted(self.leaving)]
        return b"me 127.0.0.1:1@2 myself,master - 0 0 %d connected %b\n" % (
            self.epoch,
            b" ".join(slots),
        )

    def _claim(self, taker: OnFound) -> None:
        words = self.world.words_of(self)
        self.stream.append(lambda: taker([words]))

    def _find(self, id_: bytes, on_found: OnFound, asking: bool) -> None:
        bucket, slot, other = bucket_of(id_, BITS), slot_of_id(id_), self.world.other(self)
        is_here = bucket in self.bucket_to_records
        is_ours = slot in self.slots and (is_here or slot not in self.leaving)
        if not is_ours and not (asking and slot in other.leaving):
            has_moved = slot not in self.slots
            self.world.asking -= asking
            self.stream.append(lambda: self.world.redirect(id_, on_found, other, has_moved))
            return
        self.world.asking -= asking
        self._tracked.add(bucket)
        version = self.bucket_to_records.get(bucket, {}).get(id_)
        record = None if version is None else b"%d" % version
        self.stream.append(lambda: on_found([record]))

    def write(self, id_: bytes, version: int) -> None:
        bucket = bucket_of(id_, BITS)
        self.bucket_to_records.setdefault(bucket, {})[id_] = version
        self.changed(bucket)

    def changed(self, bucket: int) -> None:
        if bucket in self._tracked:
            self._tracked.discard(bucket)
            self.stream.append(lambda: self.near.pushed([b"invalidate", [bucket_key(bucket)]]))

    def settle(self) -> None:
        while self.sent or self.stream:
            (self.sent or self.stream).popleft()()


class World:
    """Two nodes, a worker that asks them, and writers that wait for as long as a lease."""

    def __init__(self, seed: int, *, is_honest: bool = True) -> None:
        self.rng = Random(seed)
        self.is_honest = is_honest
        self.now_s = 1000.0
        self.counts = Counts()
        self.bugs: list[Exception] = []
        self.registration = Registration(1e6)
        self.nodes = [Node(self, 0), Node(self, 1)]
        self.nodes[0].slots = {slot_of_id(id_) for id_ in (ADA, BOB, CYD)}
        self.first_words = [node.words() for node in self.nodes]
        self.route = dict.fromkeys(self.nodes[0].slots, self.nodes[0])
        self.version = 0
        self.asking = 0  # questions that ASK has sent on
        self.acknowledged: list[tuple[float, bytes, int]] = []
        self.stale: list[tuple[int, int]] = []
        self.registration.confirm(self.now_s, self.now_s)
        self.now_s += 1e-6
        for node in self.nodes:
            node.near.claim()
        self.all_is_done_and_heard()

    def words_of(self, node: Node) -> bytes:
        return node.words() if self.is_honest else self.first_words[node.number]

    def other(self, node: Node) -> Node:
        return self.nodes[1 - node.number]

    def redirect(self, id_: bytes, on_found: OnFound, node: Node, has_moved: bool) -> None:
        if isinstance(on_found, Flight):
            on_found.is_astray = True
        if has_moved:
            self.route[slot_of_id(id_)] = node
        self.asking += not has_moved
        node.ask(id_, on_found, asking=not has_moved)

    def walk(self, steps: int) -> None:
        choices = list(self.WEIGHTS)
        for step in self.rng.choices(choices, [self.WEIGHTS[one] for one in choices], k=steps):
            step(self)
        self.all_is_done_and_heard()
        assert not self.bugs

    def time_passes(self) -> None:
        self.now_s += self.rng.randint(1, 12) / 1000

    def all_is_done_and_heard(self) -> None:
        while any(node.sent or node.stream for node in self.nodes):
            for node in self.nodes:
                node.settle()

    def a_node_executes(self) -> None:
        node = self.rng.choice(self.nodes)
        if node.sent:
            node.sent.popleft()()

    def the_worker_hears(self) -> None:
        node = self.rng.choice(self.nodes)
        if node.stream:
            node.stream.popleft()()

    def write(self) -> None:
        id_ = self.rng.choice([ADA, BOB, CYD])
        slot, bucket = slot_of_id(id_), bucket_of(id_, BITS)
        [node] = [node for node in self.nodes if slot in node.slots]
        if slot in node.leaving and bucket not in node.bucket_to_records:
            node = self.other(node)
        self.version += 1
        node.write(id_, self.version)
        self.acknowledged.append((self.now_s + LEASE_S, id_, self.version))

    def bid(self) -> None:
        now_s, id_ = self.now_s, self.rng.choice([ADA, BOB, CYD, CYD, CYD])
        due = max(
            (v for at_s, one, v in self.acknowledged if one == id_ and at_s <= now_s), default=0
        )

        def take(found: Found | LookupFault) -> None:
            assert not isinstance(found, LookupFault)
            version = int(found[0] or 0)
            if version < due:
                self.stale.append((version, due))

        node = self.route[slot_of_id(id_)]
        if node.near.firm[slot_of_id(id_)]:
            node.near.ask((id_,), take)
        else:
            node.ask(id_, take)

    def a_slot_begins_to_leave(self) -> None:
        if self.asking:
            return  # twice moved while a question is on its way, it misleads without a cache too
        id_ = self.rng.choice([ADA, BOB])
        [node] = [node for node in self.nodes if slot_of_id(id_) in node.slots]
        node.leaving.add(slot_of_id(id_))

    def a_slot_goes_on(self) -> None:
        """Its bucket moves, if there is one; and then, the next time, it is the other's."""
        id_ = self.rng.choice([ADA, BOB])
        slot, bucket = slot_of_id(id_), bucket_of(id_, BITS)
        [node] = [node for node in self.nodes if slot in node.slots]
        if slot not in node.leaving:
            return
        other = self.other(node)
        records = node.bucket_to_records.pop(bucket, None)
        if records is not None:
            other.bucket_to_records[bucket] = records
            other.changed(bucket)
            node.changed(bucket)
            return
        node.slots.remove(slot)
        node.leaving.remove(slot)
        other.slots.add(slot)
        if other.epoch < node.epoch or other.epoch == node.epoch:
            other.epoch = node.epoch + 1

    WEIGHTS: ClassVar = {
        time_passes: 8,
        bid: 25,
        a_node_executes: 8,
        the_worker_hears: 8,
        all_is_done_and_heard: 8,
        write: 2,
        a_slot_begins_to_leave: 1.5,
        a_slot_goes_on: 3,
    }


def test_no_bid_is_answered_by_less_than_was_acknowledged_whichever_node_has_it() -> None:
    hits = 0
    for seed in range(1500):
        world = World(seed)
        world.walk(120)
        hits += world.counts.hits
        assert not world.stale, f"seed {seed}"

    assert hits > 3_000


def test_of_nodes_that_claim_what_they_have_given_away_it_could_be() -> None:
    """
    So the test above can fail, and their claims are needed.
    """
    worlds = [World(seed, is_honest=False) for seed in range(300)]
    for world in worlds:
        world.walk(120)

    assert any(world.stale for world in worlds)


@pytest.fixture
def world() -> World:
    world = World(0)
    world.nodes[0].write(ADA, 1)
    return world


def ask(world: World, id_: bytes) -> list[object]:
    answers: list[object] = []
    world.nodes[0].near.ask((id_,), answers.append)
    return answers


def test_lease_begins_with_the_claim_and_not_with_any_answer(world: World) -> None:
    near = world.nodes[0].near
    ask(world, CYD)  # behind a claim
    world.all_is_done_and_heard()
    assert ask(world, CYD) == [[None]]
    world.now_s += LEASE_S / 4
    ask(world, ADA)  # sooner than a third of a lease, and so without
    world.all_is_done_and_heard()

    world.now_s += LEASE_S * 0.76

    assert ask(world, ADA) == []
    assert near.firm[slot_of_id(ADA)]


def test_another_claim_forgets_everything(world: World) -> None:
    ask(world, CYD)
    world.all_is_done_and_heard()
    world.a_slot_begins_to_leave()
    world.nodes[0].near.claim()
    world.all_is_done_and_heard()

    assert world.counts.entries == 0
    assert ask(world, CYD) == []


def test_node_that_will_not_say_what_it_has_is_kept_nothing_of(world: World) -> None:
    takers: list[OnFound] = []
    near = NodeNear(
        lambda id_, flight: None,
        takers.append,
        BITS,
        world.counts,
        world.bugs.append,
        world.registration,
        clock_s=lambda: world.now_s,
        lease_s=LEASE_S,
        max_bytes=1000,
    )
    near.claim()
    [taker] = takers
    assert isinstance(taker, TakesErrors)

    taker([b"nonsense"])

    assert near.refusal == "the node does not say which slots it has"
    assert not any(near.firm)
