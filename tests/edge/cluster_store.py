"""
A Redis Cluster with four hundred persons on it, a loader that keeps it up, and who checks bids.

A checking client asks all the while, for members in every part of the cluster and for
persons who have opted out. Each answer must be the exact one, or the request as it came.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.blobs import Blobs
from segments.ledger.database.engine import open_ledger
from segments.loader.loader import Loader
from segments.model.identity import IdentifierKind, id_of_email_hash
from segments.model.record import Change, OptOutAction
from segments.projection.opt_outs import record_opt_out
from segments.settings import Settings
from segments.store.keys import bucket_key, bucket_of, slot_of
from segments.store.reader import Meta, read_meta
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from tests.cluster import TestCluster
from tests.edge.client import connected
from tests.edge.small_store import Service, added_data, bid_request, eventually, started
from tests.engines import Engine
from tests.ledger_seed import Seeded, seed

PERSONS = [sha256(b"%d@example.com" % n).hexdigest() for n in range(400)]
OPTED_OUT = PERSONS[::4]
MEMBERS = [person for person in PERSONS if person not in OPTED_OUT]

SHOWN = [{"id": "shop", "name": "Shop", "segment": [{"id": "123"}], "ext": {"segtax": 4}}]
"""What is added to a request of a member."""


class Checking:
    """Asks for everybody, again and again, and remembers when each was passed through."""

    def __init__(self, service: Service) -> None:
        self.answers = 0
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.passed_at_s: dict[str, list[float]] = {}
        self.opted_out = set(OPTED_OUT)  # acknowledged
        self.saying_no = set(OPTED_OUT)  # maybe in force, maybe not yet
        self.service = service
        self.port = service.port

    async def run(self) -> None:
        async with connected(self.service.port) as client:
            while True:
                for person in PERSONS:
                    # As it was when the question was sent: who says no meanwhile may be shown.
                    had_said_no = person in self.opted_out
                    body = bid_request(person)
                    answer = await client.post(body)
                    self.answers += 1
                    self.outcomes[answer.outcome] += 1
                    if answer.outcome == "enriched":
                        if had_said_no or added_data(answer.body) != SHOWN:
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


class ClusterService:
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
            self.ledger,
            self.redis,
            OptOutAction.RESTRICT,
            [(IdentifierKind.EMAIL, id_of_email_hash(person))],
        )
        assert receipt.waits_because == ""

    def slots_on(self, node: Engine) -> set[int]:
        return {
            slot
            for first, last, master, *_ in self.cluster._raw(node, "CLUSTER SLOTS")
            if master[1] == int(node.port)
            for slot in range(first, last + 1)
        }

    def persons_on(self, node: Engine) -> list[str]:
        slots = self.slots_on(node)
        return [person for person in PERSONS if self.slot_of(person) in slots]

    def members_on(self, node: Engine) -> list[str]:
        return [person for person in self.persons_on(node) if person not in OPTED_OUT]


@asynccontextmanager
async def furnished(cluster: TestCluster, folder: Path) -> AsyncIterator[ClusterService]:
    """Bring everybody into an empty cluster, and keep it up as a loader does."""
    settings = Settings(data_dir=folder / "data", expected_ids=100_000, redis_url=cluster.url)
    stopping = asyncio.Event()
    async with open_ledger(settings.ledger_dsn) as ledger, connect(cluster.url) as redis:
        loader = Loader(settings.loader_options, ledger, redis, Blobs.open(settings.blobs_at))
        seeded = await seed(ledger)
        await loader.catch_up()
        world = ClusterService(cluster, redis, ledger, await read_meta(redis), seeded)
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
async def checked(world: ClusterService, **settings: object) -> AsyncIterator[Checking]:
    async with started(world.cluster.url, **settings) as service:
        await eventually(lambda: service.is_up and not service.worker.bids.lookup.message)
        checking = Checking(service)
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
