"""
A small store with one of everything that the edge's tests need, and a worker upon it.

    MEMBER      in audiences 1 and 2 of the shop
    OPTED_OUT   in them too, and has opted out of all
    STRANGER    in no audience
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import msgspec
from redis.asyncio import Redis

from rtb.server.metrics.shared_counters import SharedCounters, create
from rtb.server.worker import Worker
from rtb.settings import RtbSettings
from segments.model.catalog import AccountEntry, AudienceEntry, RecipientEntry
from segments.model.identity import id_of_email_hash
from segments.model.record import EVERYONE, Change, OptOut, OptOutAction
from segments.store import keys
from segments.store.meta import mark_caught_up, mark_filled, prepare
from segments.store.servers.connection import connect
from segments.store.servers.masters import runs
from segments.store.writer import Writer
from tests.edge.client import WITHIN_S

EXPECTED_IDS = 10_000

MEMBER = sha256(b"member@example.com").hexdigest()
OPTED_OUT = sha256(b"opted-out@example.com").hexdigest()
STRANGER = sha256(b"stranger@example.com").hexdigest()

SHOP_DATA = {"id": "shop", "name": "Shop", "segment": [{"id": "101"}, {"id": "102"}]}
"""What is added to a request for MEMBER."""


async def furnish(redis: Redis) -> None:
    """Fill an empty store."""
    writer = Writer(redis, await prepare(redis, EXPECTED_IDS))
    ids = [id_of_email_hash(digest) for digest in (MEMBER, OPTED_OUT)]
    await writer.merge(ids, [Change(1, is_add=True), Change(2, is_add=True)])
    await writer.opt_out(ids[1:], OptOut(EVERYONE, OptOutAction.RESTRICT), None)
    await publish(redis, 1)
    await caught_up(redis)


async def caught_up(redis: Redis) -> None:
    """Say that the store has every opt-out, as a loader that has looked does after each start."""
    await mark_caught_up(redis, (await runs(redis)).run_to_server, 0)
    await mark_filled(redis)


async def publish(
    redis: Redis,
    version: int,
    *,
    segment_ids: tuple[str, ...] = ("101", "102"),
    is_told: bool = True,
) -> None:
    """Publish a catalog, as the loader does; workers that are not told find it by themselves."""
    tables: dict[bytes, list[Any]] = {
        keys.ACCOUNTS: [AccountEntry(1, "advertiser", "shop", "Shop", is_active=True)],
        keys.AUDIENCES: [
            AudienceEntry(i, 1, 1, segment_id, is_active=True)
            for i, segment_id in enumerate(segment_ids, 1)
        ],
        keys.RECIPIENTS: [
            RecipientEntry(1, "dsp-a", is_active=True, partner_ids=(1,)),
            RecipientEntry(2, "dsp-without-grants", is_active=True),
            RecipientEntry(3, "dsp-held-out", is_active=True, partner_ids=(1,), hold_out=1.0),
        ],
    }
    async with redis.pipeline(transaction=False) as pipeline:
        for key, entries in tables.items():
            pipeline.delete(key)
            for entry in entries:
                pipeline.hset(key, str(entry.id), msgspec.json.encode(entry))
        pipeline.set(keys.VERSION, version)
        await pipeline.execute()
    if is_told:
        await redis.publish(keys.CHANGED, version)


async def publish_recipients(redis: Redis, version: int, *entries: RecipientEntry) -> None:
    """Publish a catalog with these recipients in the place of the usual ones."""
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.delete(keys.RECIPIENTS)
        for entry in entries:
            pipeline.hset(keys.RECIPIENTS.decode(), str(entry.id), msgspec.json.encode(entry))
        pipeline.set(keys.VERSION, version)
        await pipeline.execute()
    await redis.publish(keys.CHANGED.decode(), version)


def bid_request(digest: str | None = MEMBER, **fields: Any) -> bytes:
    """Make a bid request of a person, who has one hashed e-mail address, or no id at all."""
    user: dict[str, Any] = {"yob": 1984}
    if digest is not None:
        user["eids"] = [{"source": "liveintent.com", "uids": [{"id": digest}]}]
    # 1.10 and the large integer: what a round trip through numbers would change.
    head = '{"id":"r1","imp":[{"id":"1","bidfloor":1.10,"ext":{"n":12345678901234567890}}],'
    return (head + json.dumps({"user": user, **fields})[1:]).encode()


def added_data(body: bytes) -> Any:
    """Return `user.data` of an answer."""
    return json.loads(body)["user"].get("data")


async def eventually(claim: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """Wait until a claim holds."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            holds = claim()
            if await holds if isinstance(holds, Awaitable) else holds:
                return
            await asyncio.sleep(0.005)


class Service:
    """A running worker: its port, its parts, and what it has counted."""

    def __init__(self, worker: Worker, port: int, counters: SharedCounters) -> None:
        self.worker = worker
        self.port = port
        self.counters = counters
        self.stop = asyncio.Event()
        self.task: asyncio.Task[None] = asyncio.create_task(worker.run(self.stop))

    @property
    def is_up(self) -> bool:
        """Whether it can enrich."""
        return self.worker.bids.lookup.fault is None and self.worker.bids.is_confirmed

    def count(self, outcome: str, reason: str = "") -> int:
        """Return how many requests ended so, over all recipients."""
        return sum(
            count
            for (_, *ending), count in self.counters.requests().items()
            if ending == [outcome, reason]
        )


@asynccontextmanager
async def started(store_url: str, **settings: Any) -> AsyncIterator[Service]:
    """
    Run a worker on a store, whatever state that is in.

    Unless told otherwise it is patient: on a busy machine a reply may well
    come later than a production deadline.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    counters = SharedCounters(create(1), 0)
    port: int = listening.getsockname()[1]
    # No loader runs beside it, unless a test starts one.
    defaults = {
        "redis_url": store_url,
        "drain_s": 2,
        "deadline_cap_ms": 5_000,
        "tmax_share": 1,
        "opt_outs_max_age_s": 0,
        "catalog_lease_ms": 10_000,  # of a busy machine, too
    }
    service = Service(
        Worker(RtbSettings(**{**defaults, **settings}), [listening], counters), port, counters
    )
    try:
        yield service
    finally:
        service.stop.set()
        async with asyncio.timeout(WITHIN_S):
            await service.task
        listening.close()


@asynccontextmanager
async def serving(store_url: str, **settings: Any) -> AsyncIterator[Service]:
    """Furnish an empty store and run a worker on it, ready."""
    async with connect(store_url) as redis:
        await furnish(redis)
    async with started(store_url, **settings) as service:
        await eventually(lambda: service.is_up)
        yield service
