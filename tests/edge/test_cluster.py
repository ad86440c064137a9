"""
A worker on a Redis Cluster that moves slots, loses masters and gains nodes while it serves.

A checking client asks all the while, for members in every part of the cluster and for
persons who have opted out. Each answer must be the exact one, or the request as it came;
and the latter only for as long as the cluster had no master for the person's slot, and
until the loader had brought the opt-outs into the one that took its place.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.blobs import Blobs
from segments.identity import Kind, id_of_email_hash
from segments.ledger.engine import open_ledger
from segments.loader import EVERY_S, Loader
from segments.optout import record_opt_out
from segments.record import Action, Change
from segments.settings import Settings
from segments.store.connection import connect
from segments.store.keys import bucket_key, bucket_of, slot_of
from segments.store.reader import Meta, read_meta
from segments.store.writer import Writer
from tests.cluster import TestCluster, in_thread, until_true
from tests.edge.client import connected
from tests.edge.world import Service, added_data, bid_request, eventually, started
from tests.engines import Engine
from tests.ledger_seed import Seeded, seed

pytestmark = pytest.mark.xdist_group("cluster")  # six servers are enough at a time

PERSONS = [sha256(b"%d@example.com" % n).hexdigest() for n in range(400)]
OPTED_OUT = PERSONS[::4]
MEMBERS = [person for person in PERSONS if person not in OPTED_OUT]

PROBES_S = 2.0
"""What a worker and a loader may be late by: a look each, on a machine that has other work."""


class Checking:
    """Asks for everybody, again and again, and remembers when each was passed through."""

    def __init__(self, service: Service, expected: list[object]) -> None:
        self.expected = expected
        self.answers = 0
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.passed_at_s: dict[str, list[float]] = {}
        self.opted_out = set(OPTED_OUT)  # acknowledged
        self.saying_no = set(OPTED_OUT)  # maybe in force, maybe not yet
        self._service = service

    async def run(self) -> None:
        async with connected(self._service.port) as client:
            while True:
                for person in PERSONS:
                    # As it was when the question was sent: who says no meanwhile may be shown.
                    had_said_no = person in self.opted_out
                    body = bid_request(person)
                    answer = await client.post(body)
                    self.answers += 1
                    self.outcomes[answer.outcome] += 1
                    if answer.outcome == "enriched":
                        if had_said_no or added_data(answer.body) != self.expected:
                            self.wrong.append(person)
                    elif answer.body != body or answer.outcome == "no_match":
                        self.wrong.append(person)
                    elif answer.outcome == "opted_out":
                        if person not in self.saying_no:
                            self.wrong.append(person)
                    else:
                        self.passed_at_s.setdefault(person, []).append(time.monotonic())

    async def rounds(self, count: int) -> None:
        """Wait until everybody was asked for some more times."""
        until = self.answers + count * len(PERSONS)
        await eventually(lambda: self.answers >= until)

    def passed_since(self, at_s: float, person_is: Callable[[str], bool]) -> list[float]:
        return [
            each
            for person, times in self.passed_at_s.items()
            if person_is(person)
            for each in times
            if each >= at_s
        ]


class World:
    """A cluster, a loader that keeps it up, a worker on it, and who asks it."""

    def __init__(
        self, cluster: TestCluster, redis: Redis, ledger: AsyncEngine, meta: Meta, seeded: Seeded
    ) -> None:
        self.cluster = cluster
        self.redis = redis
        self.ledger = ledger
        self.meta = meta
        self.seeded = seeded

    def slot_of(self, person: str) -> int:
        return slot_of(bucket_key(bucket_of(id_of_email_hash(person), self.meta.bucket_bits)))

    async def says_no(self, person: str) -> None:
        receipt = await record_opt_out(
            self.ledger, self.redis, Action.RESTRICT, [(Kind.EMAIL, id_of_email_hash(person))]
        )
        assert receipt.waits_because == ""

    def persons_on(self, node: Engine) -> list[str]:
        ranges = [
            (first, last)
            for first, last, master, *_ in self.cluster._raw(node, "CLUSTER SLOTS")
            if master[1] == int(node.port)
        ]
        return [
            person
            for person in PERSONS
            if any(first <= self.slot_of(person) <= last for first, last in ranges)
        ]


@pytest.fixture
async def world(cluster: TestCluster, tmp_path: Path) -> AsyncIterator[World]:
    settings = Settings(data_dir=tmp_path / "data", expected_ids=100_000, redis_url=cluster.url)
    stopping = asyncio.Event()
    async with open_ledger(settings) as ledger, connect(cluster.url) as redis:
        loader = Loader(settings, ledger, redis, Blobs.open(settings))
        seeded = await seed(ledger)
        await loader.catch_up()
        world = World(cluster, redis, ledger, await read_meta(redis), seeded)
        writer = Writer(redis, world.meta)
        await writer.merge(
            [id_of_email_hash(person) for person in PERSONS],
            [Change(seeded.shoes.id, is_add=True)],
        )
        for person in OPTED_OUT:
            await world.says_no(person)
        running = asyncio.create_task(loader.run(stopping))
        try:
            yield world
        finally:
            stopping.set()
            await running


@asynccontextmanager
async def checked(world: World, **settings: object) -> AsyncIterator[Checking]:
    async with started(world.cluster.url, **settings) as service:
        await eventually(lambda: service.is_up and not service.worker.bids.lookup.message)
        checking = Checking(
            service,
            [{"id": "shop", "name": "Shop", "segment": [{"id": "123"}], "ext": {"segtax": 4}}],
        )
        asking = asyncio.create_task(checking.run())
        try:
            await checking.rounds(1)
            yield checking
            await checking.rounds(1)
        finally:
            asking.cancel()
            await asyncio.wait([asking])
        assert not checking.wrong
        assert asking.cancelled()


async def test_every_node_is_asked_and_every_answer_is_exact(world: World) -> None:
    async with checked(world) as checking:
        await checking.rounds(2)

    assert checking.outcomes.keys() == {"enriched", "opted_out"}


async def test_moving_slots_is_seen_by_nobody(world: World) -> None:
    source, target = (await in_thread(world.cluster.masters))[:2]
    slots = sorted({world.slot_of(person) for person in world.persons_on(source)})[:12]

    async with checked(world) as checking:
        for slot in slots:
            await in_thread(world.cluster.move_slot, slot, source, target, lambda: time.sleep(0.02))
            await checking.rounds(1)

    assert checking.outcomes.keys() == {"enriched", "opted_out"}
    assert len(slots) == 12


async def test_a_lost_master_is_missed_for_as_long_as_the_cluster_takes(world: World) -> None:
    cluster = world.cluster
    lost = (await in_thread(cluster.masters))[1]
    concerned = set(world.persons_on(lost))
    heir = (await in_thread(cluster.replicas_of, lost))[0]

    async with checked(world) as checking:
        killed_at_s = time.monotonic()
        await in_thread(lost.kill)
        await in_thread(
            until_true, lambda: cluster.ask(heir, "INFO", "replication")["role"] == "master"
        )
        back_at_s = time.monotonic()
        await asyncio.sleep(0)
        await eventually(
            lambda: (
                not checking.passed_since(time.monotonic() - 1, concerned.__contains__)
                and time.monotonic() > back_at_s + EVERY_S
            )
        )
        passed = checking.passed_since(killed_at_s, concerned.__contains__)

    assert passed
    assert max(passed) - killed_at_s < (back_at_s - killed_at_s) + EVERY_S + PROBES_S
    assert not checking.passed_since(0, lambda person: person not in concerned)


async def test_who_says_no_while_a_master_is_replaced_is_not_shown_any_more(world: World) -> None:
    cluster = world.cluster
    lost = (await in_thread(cluster.masters))[0]
    heir = (await in_thread(cluster.replicas_of, lost))[0]
    concerned = [person for person in MEMBERS if person in world.persons_on(lost)]

    async with checked(world) as checking:
        checking.saying_no.update(concerned[:30])
        await in_thread(lost.kill)
        for person in concerned[:20]:
            receipt = await record_opt_out(
                world.ledger, world.redis, Action.RESTRICT, [(Kind.EMAIL, id_of_email_hash(person))]
            )
            if receipt.waits_because == "":
                checking.opted_out.add(person)
        await in_thread(
            until_true, lambda: cluster.ask(heir, "INFO", "replication")["role"] == "master"
        )
        checking.opted_out.update(concerned[:20])  # none is shown before all are in
        await checking.rounds(3)
        for person in concerned[20:30]:
            await world.says_no(person)
            checking.opted_out.add(person)
        await checking.rounds(1)


async def test_a_node_that_joins_and_one_that_leaves_are_seen_by_nobody(world: World) -> None:
    cluster = world.cluster
    source = (await in_thread(cluster.masters))[0]
    slots = sorted({world.slot_of(person) for person in world.persons_on(source)})[:6]

    async with checked(world) as checking:
        node = await in_thread(cluster.add_node)
        # Known, and caught up, before it gets anything.
        await asyncio.sleep(EVERY_S + PROBES_S)
        for slot in slots:
            await in_thread(cluster.move_slot, slot, source, node, None)
        await checking.rounds(1)
        for slot in slots:
            await in_thread(cluster.move_slot, slot, node, source, None)
        await checking.rounds(1)
        await in_thread(cluster.remove_node, node)
        await checking.rounds(1)

    assert checking.outcomes.keys() == {"enriched", "opted_out"}
