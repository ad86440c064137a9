"""
No bucket is ever changed without a publication being told, whoever writes and whoever takes.

    held by the store    what it has in each bucket
    published            what a publication had read when it last was done

Where the two differ, the next `take` names the bucket, or says that it does not know.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from segments.model.identity import Id
from segments.model.record import Change, Membership, OptOut, OptOutAction, Record, pack
from segments.store import keys, rebuild_claim
from segments.store.changed_buckets import (
    FORGOTTEN_AFTER_S,
    MAX_BUCKET_BITS,
    ChangedBuckets,
    forget_abandoned,
)
from segments.store.meta import prepare
from segments.store.reader import Meta, StoreUnusable
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from tests.cluster import TestCluster
from tests.engines import Engine

NOW_S = 1_800_000_000.0
TODAY = 2500
BUCKETS = 6


def id_of(number: int, bucket: int) -> Id:
    """Make an id of one of the 128 buckets that the tests' store has."""
    return Id((bucket << 25).to_bytes(4) + number.to_bytes(8) + bytes(4))


IDS = [id_of(n, bucket) for bucket in range(BUCKETS) for n in range(3)]

some_ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=6)
writes = (
    st.tuples(st.just("add"), some_ids, st.sampled_from([0, TODAY - 1, TODAY]))
    | st.tuples(st.just("remove"), some_ids, st.just(0))
    | st.tuples(st.just("opt out"), some_ids, st.just(0))
    | st.tuples(st.just("sweep"), some_ids, st.just(0))
    | st.tuples(st.just("retain"), some_ids, st.just(0))
)
steps = st.tuples(
    st.sampled_from(["begin", "take", "take and die", "publish"]), st.sampled_from("ab")
)
stories = st.lists(writes | steps, max_size=25)

Held = dict[int, dict[bytes, bytes]]


@pytest.fixture
async def redis(engine: Engine) -> AsyncIterator[Redis]:
    async with connect(engine.url) as client:
        yield client


async def held(redis: Redis) -> Held:
    """Return all that is in each bucket."""
    return {n: found for n in range(BUCKETS) if (found := await bucket(redis, n))}


async def bucket(redis: Redis, number: int) -> dict[bytes, bytes]:
    """Return all that is in a bucket."""
    found: dict[bytes, bytes] = await redis.hgetall(keys.bucket_key(number))  # type: ignore[assignment]
    return found


@dataclass
class Publication:
    """What somebody who follows would have."""

    changed: ChangedBuckets
    published: Held | None = None
    seen: Held = field(default_factory=dict)

    async def begin(self, redis: Redis, meta: Meta) -> None:
        await self.changed.begin(meta, NOW_S)
        self.published = await held(redis)

    async def take(self, redis: Redis, meta: Meta, *, publishes: bool) -> None:
        """Take, read what was taken, and publish it or die before that."""
        numbers = await self.changed.take(meta, NOW_S)
        if numbers is None:
            assert self.published is None, "what was noted is lost"
            return
        assert self.published is not None
        now = await held(redis)
        differ = {n for n in range(BUCKETS) if now.get(n) != self.published.get(n)}
        assert differ <= set(numbers)
        if publishes:
            self.published = now
            await self.changed.done(1, NOW_S, all_taken=True)


async def write(writer: Writer, kind: str, ids: list[Id], expiry_day: int) -> None:
    buckets = sorted({keys.bucket_of(id_, 7) for id_ in ids})
    if kind == "add":
        await writer.merge(ids, [Change(1, is_add=True, expiry_day=expiry_day)])
    elif kind == "remove":
        await writer.merge(ids, [Change(1, is_add=False)])
    elif kind == "opt out":
        await writer.opt_out(ids, OptOut(0, OptOutAction.ERASURE))
    elif kind == "sweep":
        await writer.sweep(buckets, TODAY, ())
    else:
        await writer.retain([(n, keys.field_of(ids[0])) for n in buckets], 1)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(story=stories)
async def test_no_changed_bucket_is_ever_missed(redis: Redis, story: list[tuple[str, ...]]) -> None:
    await redis.flushall()
    meta = await prepare(redis, 10_000)
    assert meta.bucket_bits == 7
    writer = Writer(redis, meta)
    publications = {name: Publication(ChangedBuckets(redis, name)) for name in "ab"}

    for step, *arguments in story:
        if step == "begin":
            await publications[arguments[0]].begin(redis, meta)
        elif step in ("take", "take and die", "publish"):
            who = publications[arguments[0]]
            await who.take(redis, meta, publishes=step == "publish")
        else:
            await write(writer, step, *arguments)  # type: ignore[arg-type] # of a write

    for who in publications.values():
        await who.take(redis, meta, publishes=True)


async def test_writers_and_takers_at_once_miss_nothing(redis: Redis, meta: Meta) -> None:
    writer, changed = Writer(redis, meta), ChangedBuckets(redis, "a")
    await changed.begin(meta, NOW_S)
    followed: Held = {}
    is_done = False

    async def write_all() -> None:
        # Buckets that are made and buckets that are changed, by turns.
        for n in range(40):
            ids = [id_of(n, bucket) for bucket in range(n % 7, 128, 7)]
            await writer.merge(ids, [Change(n % 5 + 1, is_add=True)])

    async def follow() -> None:
        while True:
            was_last = is_done
            numbers = await changed.take(meta, NOW_S)
            assert numbers is not None
            for number in numbers:
                followed[number] = await bucket(redis, number)
            await changed.done(1, NOW_S, all_taken=True)
            if was_last:
                return

    following = asyncio.create_task(follow())
    await write_all()
    is_done = True
    await following

    assert followed == {n: await bucket(redis, n) for n in range(128)}


async def test_nothing_is_noted_while_nobody_publishes(redis: Redis, meta: Meta) -> None:
    writer = Writer(redis, meta)

    await writer.merge(IDS, [Change(1, is_add=True)])
    await writer.merge(IDS, [Change(2, is_add=True)])

    assert not await redis.keys("seg:1:changes*")
    assert await ChangedBuckets(redis, "a").take(meta, NOW_S) is None


async def test_what_changes_nothing_is_not_noted(redis: Redis, meta: Meta) -> None:
    writer, changed = Writer(redis, meta), ChangedBuckets(redis, "a")
    await writer.merge(IDS, [Change(1, is_add=True)])
    await changed.begin(meta, NOW_S)

    await writer.merge(IDS, [Change(2, is_add=False)])

    assert await changed.take(meta, NOW_S) == []


async def test_unreadable_record_changes_nothing_and_notes_nothing(
    redis: Redis, meta: Meta
) -> None:
    await redis.hset(keys.bucket_key(0), mapping={keys.field_of(IDS[0]): b"\xff"})
    changed = ChangedBuckets(redis, "a")
    await changed.begin(meta, NOW_S)

    assert len((await Writer(redis, meta).sweep([0], TODAY, ()))[1]) == 1

    assert await changed.take(meta, NOW_S) == []


@pytest.mark.parametrize("lost", ["seg:1:changes", "seg:1:changes:a", "seg:1:publications"])
async def test_what_was_noted_and_is_lost_is_said_to_be(
    redis: Redis, meta: Meta, lost: str
) -> None:
    changed = ChangedBuckets(redis, "a")
    await changed.begin(meta, NOW_S)

    await redis.delete(lost)

    assert await changed.take(meta, NOW_S) is None


async def test_rebuild_loses_what_was_noted(redis: Redis, meta: Meta) -> None:
    one, other = ChangedBuckets(redis, "a"), ChangedBuckets(redis, "b")
    await one.begin(meta, NOW_S)
    await other.begin(meta, NOW_S)

    name = await rebuild_claim.take(redis)
    await rebuild_claim.wipe(redis)
    await rebuild_claim.hand_over(redis, name, meta)
    await other.begin(meta, NOW_S)

    assert await one.take(meta, NOW_S) is None
    assert await other.take(meta, NOW_S) == []


async def test_publication_that_ends_leaves_nothing(redis: Redis, meta: Meta) -> None:
    one, other = ChangedBuckets(redis, "a"), ChangedBuckets(redis, "b")
    await one.begin(meta, NOW_S)
    await other.begin(meta, NOW_S)
    await Writer(redis, meta).merge(IDS, [Change(1, is_add=True)])
    await one.take(meta, NOW_S)

    await one.end()

    assert await other.take(meta, NOW_S) == list(range(BUCKETS))
    await other.end()
    assert not await redis.keys("seg:1:changes*")


async def test_publication_that_nobody_makes_is_forgotten(redis: Redis, meta: Meta) -> None:
    one, other = ChangedBuckets(redis, "a"), ChangedBuckets(redis, "b")
    await one.begin(meta, NOW_S)
    await other.begin(meta, NOW_S)
    await other.take(meta, NOW_S + 10)

    await forget_abandoned(redis, NOW_S + FORGOTTEN_AFTER_S + 5)

    assert await one.take(meta, NOW_S) is None
    assert await other.take(meta, NOW_S) == []


async def test_store_of_too_many_buckets_is_refused(redis: Redis, meta: Meta) -> None:
    with pytest.raises(StoreUnusable, match="can't be published"):
        await ChangedBuckets(redis, "a").begin(Meta(MAX_BUCKET_BITS + 1, 0), NOW_S)


async def test_cluster_can_not_be_published(cluster: TestCluster) -> None:
    async with connect(cluster.url) as redis:
        with pytest.raises(StoreUnusable, match="Cluster"):
            ChangedBuckets(redis, "a")


async def test_cluster_that_a_client_of_one_server_talks_to_can_not_be_published(
    cluster: TestCluster,
) -> None:
    async with connect(cluster.nodes[0].url) as redis:
        with pytest.raises(StoreUnusable, match="Cluster"):
            await ChangedBuckets(redis, "a").begin(Meta(7, 0), NOW_S)


async def test_bucket_is_made_and_marked_in_one_step(redis: Redis, meta: Meta) -> None:
    """A writer that is killed between the two would leave one that nobody is told of."""
    await ChangedBuckets(redis, "a").begin(meta, NOW_S)
    await redis.config_resetstat()

    await Writer(redis, meta).merge(IDS, [Change(1, is_add=True)])

    stats = await redis.info("commandstats")
    assert stats["cmdstat_restore"]["calls"] == BUCKETS
    assert stats["cmdstat_exec"]["calls"] >= 1
    assert "cmdstat_evalsha" not in stats
    record = pack(Record((), (Membership(1),)))
    assert (await bucket(redis, 0))[keys.field_of(IDS[0])] == record
