"""
A person who has opted out is not shown while the store is lost, or was down at the opt-out.

Bids come without a pause, as the loader looks and the store is made anew; to a
worker that asks each time, and to one that keeps what the store has said.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.live_audience.accept import accept
from segments.doors.live_audience.metadata import read_metadata
from segments.files.blobs import Blobs
from segments.ingest.tools import Tools
from segments.ledger import accounts, recipients
from segments.ledger.database.engine import open_ledger
from segments.loader.loader import EVERY_S, Loader
from segments.model.account import Account, AccountKind
from segments.model.identity import IdentifierKind
from segments.model.record import OptOutAction
from segments.projection.catalog import catch_up
from segments.projection.in_force import Receipt
from segments.projection.opt_outs import record_opt_out
from segments.settings import Settings
from segments.store.reader import StoreUnusable
from segments.store.servers.connection import connect
from segments.upkeep.rebuild import rebuild
from tests.edge.client import ENRICH, connected
from tests.edge.small_store import Service, bid_request, eventually, started
from tests.engines import Engine
from tests.segments.ingest.deliveries import (
    PARTNER_ID,
    as_json,
    email_hashes,
    ids_of,
    metadata_of,
    text_of,
)

PEOPLE = email_hashes(40)
WILLING = PEOPLE[20:]
SETTLE_S = 1.5
"""Longer than a worker goes on by a meta that it has read: two probes."""


class Bids:
    """Bids of everybody, over and over, and how they ended."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Counter[str]] = {person: Counter() for person in PEOPLE}

    def of(self, people: list[str]) -> Counter[str]:
        return sum((self.outcomes[person] for person in people), Counter())

    async def hammer(self, port: int) -> None:
        async with connected(port) as client:
            while True:
                for person in PEOPLE:
                    answer = await client.post(bid_request(person))
                    self.outcomes[person][answer.outcome] += 1


class InterruptedJob:
    """A ledger, a store and a partner whose file everybody is in."""

    def __init__(self, settings: Settings, ledger: AsyncEngine, redis: Redis) -> None:
        self.settings = settings
        self.ledger = ledger
        self.redis = redis
        self.blobs = Blobs.open(settings.blobs_at)
        self.partner: Account

    async def furnish(self) -> None:
        async with self.ledger.begin() as conn:
            self.partner = await accounts.add_account(
                conn, AccountKind.ADVERTISER, PARTNER_ID, "Partner", now_s=0
            )
            recipient = await recipients.add_recipient(conn, ENRICH.rpartition("/")[2], now_s=0)
            await recipients.grant(conn, recipient, self.partner)
        content = text_of(PEOPLE)
        job = await accept(
            self.ledger,
            self.blobs,
            read_metadata(as_json(metadata_of(content, records=len(PEOPLE)))),
            [content],
            door="test",
            file_name="a.txt",
            now_s=time.time(),
        )
        loader = Loader(self.settings.loader_options, self.ledger, self.redis, self.blobs)
        await loader.catch_up()
        await loader.carry(job, asyncio.Event(), lambda _: None)

    async def say_no(
        self, person: str, action: OptOutAction, account: Account | None = None
    ) -> Receipt:
        ids = [(IdentifierKind.EMAIL, id_) for id_ in ids_of([person])]
        return await record_opt_out(
            self.ledger, self.redis, action, ids, None if account is None else account.id
        )

    async def keep_up(self, stopping: asyncio.Event) -> None:
        """Do what the loader does, as often as it does."""
        while not stopping.is_set():
            with suppress(RedisError, StoreUnusable, OSError):
                await catch_up(self.ledger, self.redis, self.settings.expected_ids)
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), EVERY_S)

    @property
    def tools(self) -> Tools:
        spool = self.settings.spool_dir
        return Tools(self.ledger, self.redis, self.blobs, spool, time.time)


@pytest.fixture
async def world(
    engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[InterruptedJob]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), expected_ids=10_000)
    async with open_ledger(settings.ledger_dsn) as ledger, connect(engine.url, retry=None) as redis:
        world = InterruptedJob(settings, ledger, redis)
        await world.furnish()
        yield world


@pytest.fixture(params=[0, 1_000_000], ids=["no cache", "near cache"])
def cache_bytes(request: pytest.FixtureRequest) -> int:
    room: int = request.param
    return room


@asynccontextmanager
async def hammered(
    world: InterruptedJob, engine: Engine, cache_bytes: int
) -> AsyncIterator[tuple[Bids, Service]]:
    """Run a worker, bids without a pause, and a loader that looks."""
    async with started(engine.url, cache_bytes=cache_bytes) as service:
        await eventually(lambda: service.is_up)
        bids = Bids()
        tasks = [asyncio.create_task(bids.hammer(service.port)) for _ in range(4)]
        # Told, not cancelled: redis-py, at times, takes a cancellation for itself.
        stopping = asyncio.Event()
        keeping_up = asyncio.create_task(world.keep_up(stopping))
        try:
            yield bids, service
        finally:
            stopping.set()
            await keeping_up
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


async def test_rebuild_restores_every_opt_out_before_the_first_bid_is_enriched(
    engine: Engine, world: InterruptedJob, cache_bytes: int
) -> None:
    for number, person in enumerate(PEOPLE[:20]):
        action = OptOutAction.RESTRICT if number % 2 else OptOutAction.ERASURE
        await world.say_no(person, action, world.partner if number % 3 else None)

    async with hammered(world, engine, cache_bytes) as (bids, _):
        await eventually(lambda: min(bids.outcomes[p]["enriched"] for p in WILLING) > 5)
        await world.redis.flushall()
        await rebuild(world.tools, world.settings.expected_ids, settle_s=SETTLE_S)
        before = {person: bids.outcomes[person]["enriched"] for person in WILLING}
        await eventually(
            lambda: min(bids.outcomes[p]["enriched"] - before[p] for p in WILLING) > 20
        )

    told, willing = bids.of(PEOPLE[:20]), bids.of(WILLING)
    assert told["enriched"] == 0
    assert told["opted_out"] > 0
    assert willing["store_down"] > 0


async def test_opt_out_that_came_while_the_store_was_down_is_in_force_before_it_serves(
    engine: Engine, world: InterruptedJob, cache_bytes: int
) -> None:
    """
    It is durable in the ledger, and the store that returns has not heard of it.
    """
    told = PEOPLE[:20]
    async with hammered(world, engine, cache_bytes) as (bids, service):
        await eventually(lambda: min(bids.outcomes[p]["enriched"] for p in PEOPLE) > 5)
        engine.kill()
        await eventually(lambda: not service.is_up)
        receipts = [await world.say_no(person, OptOutAction.RESTRICT) for person in told]
        shown = {person: bids.outcomes[person]["enriched"] for person in PEOPLE}
        engine.start()
        await eventually(lambda: min(bids.outcomes[p]["enriched"] - shown[p] for p in WILLING) > 20)

    assert all(receipt.waits_because for receipt in receipts)
    assert [bids.outcomes[person]["enriched"] - shown[person] for person in told] == [0] * 20
    assert bids.of(told)["opted_out"] > 0
