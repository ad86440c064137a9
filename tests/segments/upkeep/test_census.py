"""The census and the ledger: what is due, what is kept, and for how long; and what it costs."""

import time
from collections.abc import AsyncIterator
from random import Random

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import audiences, job_audiences, jobs
from segments.ledger.audience_counts import (
    MAX_DAYS,
    counts_of,
    is_census_due,
    keep_counts,
    last_counts,
)
from segments.ledger.database.engine import reading
from segments.ledger.tables import audience_counts
from segments.model import record as record_module
from segments.model.audience_count import AudienceCount
from segments.model.day import S_PER_DAY
from segments.model.job import JobState, Planned
from segments.model.order import Order, SegmentAction, SegmentOrder
from segments.model.record import (
    Change,
    Membership,
    OptOut,
    OptOutAction,
    Record,
    day_of,
    pack,
)
from segments.store import keys
from segments.store.meta import prepare
from segments.store.reader import read_meta
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from segments.upkeep.census import Census, Members, census, census_if_due, count
from tests.engines import Engine
from tests.ledger_seed import NOW_S, Seeded, seed
from tests.segments.ingest.deliveries import email_hashes, ids_of

TODAY = day_of(NOW_S)
IDS = ids_of(email_hashes(300))
MAX_CPU_S = 6e-6
"""For an id: 10 million in a minute."""


def now_s() -> float:
    return NOW_S


@pytest.fixture
async def redis(valkey: Engine) -> AsyncIterator[Redis]:
    async with connect(valkey.url) as client:
        await prepare(client, 10_000)
        yield client


@pytest.fixture
async def seeded(ledger: AsyncEngine) -> Seeded:
    """A ledger whose shoes had a delivery, which is done."""
    seeded = await seed(ledger)
    async with ledger.begin() as conn:
        job = await jobs.submit(
            conn,
            door="test",
            partner_id=seeded.shop.id,
            owner_id=seeded.shop.id,
            order=Order((SegmentOrder("123", "", SegmentAction.ADD, seeded.shoes.id),)),
            blob="blob",
            sha256="",
            file_name="a.txt",
            now_s=NOW_S,
            metadata={},
        )
        await job_audiences.note(conn, job.id, [Planned("123", SegmentAction.ADD, seeded.shoes.id)])
        await jobs.rewrite(conn, replace(job, state=JobState.DONE))
    return seeded


async def shoes(ledger: AsyncEngine, seeded: Seeded) -> list[AudienceCount]:
    async with reading(ledger) as conn:
        return await counts_of(conn, seeded.shoes.id)


async def test_members_opted_out_and_ends_are_kept(
    ledger: AsyncEngine, redis: Redis, seeded: Seeded
) -> None:
    writer = Writer(redis, await read_meta(redis))
    await writer.merge(IDS[:200], [Change(seeded.shoes.id, True, TODAY + 30)])
    await writer.merge(IDS[200:], [Change(seeded.shoes.id, True)])
    await writer.opt_out(IDS[:3], OptOut(seeded.publisher.id, OptOutAction.RESTRICT))
    await writer.opt_out(IDS[3:4], OptOut(seeded.agency.id, OptOutAction.RESTRICT))

    done = await census(ledger, redis, now_s)

    assert done == Census(audiences=1, persons=300)
    expected = AudienceCount(seeded.shoes.id, TODAY, NOW_S, 300, 3, {TODAY + 30: 200})
    assert await shoes(ledger, seeded) == [expected]
    async with reading(ledger) as conn:
        assert await last_counts(conn, [seeded.shoes.id, seeded.hats.id]) == {
            seeded.shoes.id: expected
        }


async def test_audience_without_members_counts_none(
    ledger: AsyncEngine, redis: Redis, seeded: Seeded
) -> None:
    await census(ledger, redis, now_s)

    [count] = await shoes(ledger, seeded)
    assert (count.members, count.opted_out, count.ends) == (0, 0, {})


async def test_census_is_due_once_a_day_and_for_a_first_delivery(
    ledger: AsyncEngine, redis: Redis, seeded: Seeded
) -> None:
    async def is_due(at_s: float = NOW_S) -> bool:
        await redis.delete(keys.COUNTED)
        return await census_if_due(ledger, redis, lambda: at_s) is not None

    assert await is_due()
    assert not await is_due()
    assert await is_due(NOW_S + S_PER_DAY)
    async with ledger.begin() as conn:
        await conn.execute(audience_counts.delete())
        other = AudienceCount(seeded.hats.id, TODAY, NOW_S, 0, 0, {})
        await keep_counts(conn, [other])
        assert await is_census_due(conn, TODAY)


async def test_one_process_looks_after_the_census_in_ten_minutes(
    ledger: AsyncEngine, redis: Redis, seeded: Seeded
) -> None:
    assert await census_if_due(ledger, redis, now_s) is not None

    async with ledger.begin() as conn:
        await conn.execute(audience_counts.delete())

    assert await census_if_due(ledger, redis, now_s) is None
    assert 0 < await redis.ttl(keys.COUNTED) <= 600


async def test_counts_are_kept_for_400_days(
    ledger: AsyncEngine, redis: Redis, seeded: Seeded
) -> None:
    number = seeded.shoes.id
    old = [AudienceCount(number, TODAY - age, 0.0, 5, 0, {}) for age in (MAX_DAYS, MAX_DAYS - 1)]
    async with ledger.begin() as conn:
        await keep_counts(conn, old)

    await census(ledger, redis, now_s)

    days = [count.day for count in await shoes(ledger, seeded)]
    assert days == [TODAY, TODAY - MAX_DAYS + 1]


async def test_deleted_audience_leaves_no_count(
    ledger: AsyncEngine, redis: Redis, seeded: Seeded
) -> None:
    await census(ledger, redis, now_s)

    async with ledger.begin() as conn:
        await audiences.delete_with_name(conn, seeded.shoes, now_s=NOW_S)

    async with reading(ledger) as conn:
        assert (await conn.execute(select(audience_counts))).all() == []
    assert await census(ledger, redis, now_s) == Census()


@pytest.mark.skipif(
    str(record_module.__file__).endswith(".py"), reason="the records' module is not compiled"
)
async def test_ten_million_ids_cost_a_minute_of_cpu_at_most(redis: Redis) -> None:
    """No two records are alike, each id is in five of 1,000 audiences, for a day of 90."""
    random = Random(1)
    audience_ids = range(1, 1_001)
    ids = 100_000
    per_bucket = 50
    for bucket in range(ids // per_bucket):
        drawn = [
            Record(
                (),
                tuple(
                    Membership(audience_id, TODAY + random.randrange(90))
                    for audience_id in random.sample(audience_ids, 5)
                ),
            )
            for _ in range(per_bucket)
        ]
        fields = [part for at, each in enumerate(drawn) for part in (b"%08d" % at, pack(each))]
        await redis.hset(keys.bucket_key(bucket), items=fields)

    costs_s = []
    for _ in range(3):
        members = Members(dict.fromkeys(audience_ids, frozenset[int]()), TODAY)
        began_s = time.process_time()
        await count(redis, 16, members)
        counts = members.counts(NOW_S)
        costs_s.append((time.process_time() - began_s) / ids)
        assert sum(each.members for each in counts) == 5 * ids
    assert min(costs_s) <= MAX_CPU_S
