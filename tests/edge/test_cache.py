"""The near cache on both engines: what changes in the store is seen by whoever keeps it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import numpy as np
import pytest
from redis.asyncio import Redis

from rtb.lookup.endpoint import lookup_of
from rtb.lookup.link import Found, LookupFault
from rtb.lookup.near_cache.lease import CacheLimits, Counts
from segments.model.identity import Id, id_of_email_hash
from segments.model.record import EVERYONE, Change, Membership, OptOut, OptOutAction, Record, pack
from segments.store import keys
from segments.store.cache_lease import lease_ms
from segments.store.meta import prepare
from segments.store.reader import read_meta
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from tests.edge.client import connected
from tests.edge.processes import listening
from tests.edge.small_store import (
    EXPECTED_IDS,
    MEMBER,
    STRANGER,
    added_data,
    bid_request,
    eventually,
    furnish,
    serving,
)
from tests.engines import Engine

MEMBER_RECORD = pack(Record((), (Membership(1), Membership(2))))
MEMBER_ID = id_of_email_hash(MEMBER)
STRANGER_ID = id_of_email_hash(STRANGER)
PATIENT: dict[str, Any] = {"cache_bytes": 1_000_000, "cache_lease_ms": 1000}
"""On a busy machine a store may well take longer to answer than a lease is long."""


class Linked:
    """A caching lookup at work."""

    def __init__(self, url: str, **options: Any) -> None:
        self.bugs: list[Exception] = []
        self.lookup = lookup_of(
            url,
            room=CacheLimits(max_bytes=1_000_000, lease_ms=1000),
            rng=Random(1),
            on_round_trip=lambda _: None,
            on_bug=self.bugs.append,
            **options,
        )

    @property
    def counts(self) -> Counts:
        return self.lookup.counts

    async def find(self, *ids: Id) -> Found | LookupFault:
        answer: asyncio.Future[Found | LookupFault] = asyncio.get_running_loop().create_future()
        self.lookup.ask(ids, answer.set_result)
        found = await answer
        return found if isinstance(found, LookupFault) else list(found)

    async def hit(self, *ids: Id) -> Found | LookupFault:
        """Ask until every one of some ids was answered from what is kept."""
        while True:
            before = self.counts.hits
            found = await self.find(*ids)
            if self.counts.hits - before == len(ids):
                return found


@asynccontextmanager
async def linked(url: str, **options: Any) -> AsyncIterator[Linked]:
    link = Linked(url, **options)
    running = asyncio.create_task(link.lookup.run())
    try:
        await eventually(lambda: link.lookup.fault is None)
        yield link
    finally:
        running.cancel()
        await asyncio.wait([running])
        assert not link.bugs


@pytest.fixture
async def furnished(redis_client: Redis) -> Writer:
    await furnish(redis_client)
    return Writer(redis_client, await read_meta(redis_client))


MEMBER_KEY = keys.bucket_key(keys.bucket_of(MEMBER_ID, keys.bucket_bits_for(EXPECTED_IDS)))
GONE = pack(Record((OptOut(EVERYONE, OptOutAction.ERASURE),)))


async def _merge(redis: Redis, writer: Writer) -> None:
    await writer.merge([MEMBER_ID], [Change(2, is_add=False)])


async def _opt_out(redis: Redis, writer: Writer) -> None:
    await writer.opt_out([MEMBER_ID], OptOut(EVERYONE, OptOutAction.ERASURE), None)


async def _sweep(redis: Redis, writer: Writer) -> None:
    await writer.sweep([int(MEMBER_KEY.rpartition(b":")[2], 16)], 1, [2])


async def _retain(redis: Redis, writer: Writer) -> None:
    await writer.retain([(int(MEMBER_KEY.rpartition(b":")[2], 16), b"")], 2)


async def _delete(redis: Redis, writer: Writer) -> None:
    await redis.delete(MEMBER_KEY)


async def _unlink(redis: Redis, writer: Writer) -> None:
    await redis.unlink(MEMBER_KEY)


async def _expire(redis: Redis, writer: Writer) -> None:
    await redis.pexpire(MEMBER_KEY, 1)


async def _flush(redis: Redis, writer: Writer) -> None:
    await redis.flushall()


ONE = pack(Record((), (Membership(1),)))


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        pytest.param(_merge, ONE, id="merge"),
        pytest.param(_opt_out, GONE, id="opt-out"),
        pytest.param(_sweep, ONE, id="sweep"),
        pytest.param(_retain, ONE, id="retain"),
        pytest.param(_delete, None, id="DEL"),
        pytest.param(_unlink, None, id="UNLINK"),
        pytest.param(_expire, None, id="expiry"),
        pytest.param(_flush, None, id="FLUSHALL"),
    ],
)
async def test_whatever_changes_a_record_is_seen(
    engine: Engine,
    redis_client: Redis,
    furnished: Writer,
    write: Callable[[Redis, Writer], Awaitable[None]],
    expected: bytes | None,
) -> None:
    async with linked(engine.url) as link:
        assert await link.hit(MEMBER_ID) == [MEMBER_RECORD]

        await write(redis_client, furnished)

        async def is_seen() -> bool:
            return await link.find(MEMBER_ID) == [expected]

        await eventually(is_seen)
        assert link.counts.invalidations > 0


async def test_bucket_that_a_restore_makes_is_seen(engine: Engine, redis_client: Redis) -> None:
    """
    Of an id that nothing was known of, nothing is kept; and then there is a record.
    """
    await furnish(redis_client)
    meta = await prepare(redis_client, EXPECTED_IDS)
    rng = Random(3)
    ids = [Id(rng.randbytes(16)) for _ in range(1)]
    await redis_client.delete(keys.bucket_key(keys.bucket_of(ids[0], meta.bucket_bits)))
    async with linked(engine.url) as link:
        assert await link.hit(*ids) == [None]

        restored = (await redis_client.info("commandstats")).get("cmdstat_restore", {"calls": 0})
        array = np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16)
        await Writer(redis_client, meta).merge(array, [Change(7, is_add=True)])
        await eventually(lambda: link.counts.invalidations > 0)
        after = (await redis_client.info("commandstats"))["cmdstat_restore"]

        assert await link.find(*ids) == [pack(Record((), (Membership(7),)))]
        assert after["calls"] > restored["calls"]


@pytest.mark.usefixtures("furnished")
async def test_keys_that_the_server_forgets_to_track_are_dropped(
    engine: Engine, redis_client: Redis
) -> None:
    await redis_client.config_set("tracking-table-max-keys", 1)
    try:
        async with linked(engine.url) as link:
            rng = Random(4)
            for _ in range(20):
                await link.find(Id(rng.randbytes(16)))
            await eventually(lambda: link.counts.invalidations > 0)
    finally:
        await redis_client.config_set("tracking-table-max-keys", 1_000_000)


@pytest.mark.usefixtures("furnished")
async def test_lost_link_loses_what_was_kept(engine: Engine, redis_client: Redis) -> None:
    async with linked(engine.url) as link:
        await link.hit(MEMBER_ID)

        await redis_client.client_kill_filter(_type="normal", skipme=True)
        await eventually(lambda: link.lookup.fault is not None)

        assert link.counts.entries == 0
        await eventually(lambda: link.lookup.fault is None)
        assert await link.find(MEMBER_ID) == [MEMBER_RECORD]
        assert link.counts.hits == 1


@pytest.mark.usefixtures("furnished")
async def test_other_bucket_bits_lose_what_was_kept(engine: Engine, redis_client: Redis) -> None:
    async with linked(engine.url, probe_s=0.05) as link:
        await link.hit(MEMBER_ID)

        await redis_client.hincrby(keys.META.decode(), "bucket_bits", 1)
        await eventually(lambda: link.counts.entries == 0)

        assert await link.find(MEMBER_ID) == [None]


@pytest.mark.usefixtures("furnished")
async def test_emptied_and_furnished_store_is_cached_again(
    engine: Engine, redis_client: Redis
) -> None:
    async with linked(engine.url, probe_s=0.05) as link:
        await link.hit(MEMBER_ID)
        await redis_client.flushall()
        await furnish(redis_client)

        await eventually(lambda: link.lookup.fault is None)
        async with asyncio.timeout(10):
            found = await link.hit(MEMBER_ID)

        assert found == [MEMBER_RECORD]
        assert await lease_ms(redis_client) == 1001


async def acl_user(redis: Redis, *rules: str) -> None:
    await redis.execute_command("ACL", "SETUSER", "bids", "on", ">secret", "~*", "&*", *rules)  # type: ignore[no-untyped-call]


@pytest.mark.usefixtures("furnished")
@pytest.mark.parametrize(
    "rule",
    [
        pytest.param("-client|tracking", id="no tracking"),
        pytest.param("-eval", id="no registration"),
    ],
)
async def test_store_that_does_not_tell_is_asked_each_time(
    engine: Engine, redis_client: Redis, rule: str
) -> None:
    await acl_user(redis_client, "+@all", rule)
    try:
        async with linked(f"redis://bids:secret@127.0.0.1:{engine.port}/0", probe_s=0.05) as link:
            for _ in range(3):
                assert await link.find(MEMBER_ID) == [MEMBER_RECORD]
            assert link.counts.refusal == "NOPERM"
            assert link.counts.hits == link.counts.entries == 0

            await acl_user(redis_client, "+@all")
            async with asyncio.timeout(10):
                await link.hit(MEMBER_ID)
    finally:
        await redis_client.execute_command("ACL", "DELUSER", "bids")  # type: ignore[no-untyped-call]


async def test_without_a_cache_nobody_is_tracked_and_no_writer_waits(engine: Engine) -> None:
    async with serving(engine.url), connect(engine.url) as redis:
        clients = await redis.info("clients")

        assert clients["tracking_clients"] == 0
        assert await lease_ms(redis) == 0


async def test_bids_are_answered_from_what_is_kept_and_counted(engine: Engine) -> None:
    async with serving(engine.url, **PATIENT) as service, connected(service.port) as client:
        answers = [await client.post(bid_request()) for _ in range(10)]
        lookup = service.worker.bids.lookup

        assert len({answer.body for answer in answers}) == 1
        assert added_data(answers[0].body)
        assert lookup.counts.hits >= 8


async def test_metrics_sum_what_the_workers_keep(engine: Engine) -> None:
    async with connect(engine.url) as redis:
        await furnish(redis)
    async with listening(workers=2, redis_url=engine.url, **PATIENT) as listener:
        await eventually(listener.is_ready)
        for _ in range(8):  # the kernel deals connections out
            async with connected(listener.port) as client:
                for _ in range(3):
                    await client.post(bid_request())

        async def all_are_counted() -> bool:
            events = ("hits", "misses", "shared", "unleased")
            counted = [
                await listener.metric(f'rtb_cache_events_total{{event="{event}"}}')
                for event in events
            ]
            return sum(counted) == 24 and counted[0] > 8

        await eventually(all_are_counted)
        assert await listener.metric("rtb_cache_entries") in (1, 2)
        assert await listener.metric("rtb_cache_bytes") > 100
