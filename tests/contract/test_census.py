"""The census equals a recount, record by record, while a loader writes."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

from redis.asyncio import Redis

from segments.model.audience_count import AudienceCount
from segments.model.identity import Id
from segments.model.record import (
    EVERYONE,
    NO_EXPIRY,
    NOTHING,
    Change,
    Membership,
    OptOut,
    OptOutAction,
    Record,
    pack,
)
from segments.store import keys
from segments.store.reader import Meta
from segments.store.writer import Writer
from segments.upkeep.census import Members, count
from segments.upkeep.sweep import buckets_of

TODAY = 2_500
NOW_S = 1_793_000_000.0
FORBIDDING = {1: frozenset({7}), 2: frozenset({7, 8}), 3: frozenset[int](), 4: frozenset({9})}
UNKNOWN, WRITTEN = 5, 6
_LOGGED = 1_000


def random_record(random: Random) -> Record:
    opt_outs = {
        OptOut(account_id, random.choice(list(OptOutAction)))
        for account_id in (EVERYONE, 7, 8)
        if random.random() < 0.1
    }
    memberships = tuple(
        Membership(audience_id, random.choice([NO_EXPIRY, TODAY - 1, TODAY, TODAY + 30]))
        for audience_id in (1, 2, 3, UNKNOWN)
        if random.random() < 0.5
    )
    return Record(tuple(sorted(opt_outs)), memberships)


def recounted(records: list[Record]) -> dict[int, AudienceCount]:
    """Count without regard to time, a person and a membership after the other."""
    counts = {}
    for audience_id, forbidding in FORBIDDING.items():
        ends: Counter[int] = Counter()
        members = opted_out = 0
        for record in records:
            for membership in record.memberships:
                is_over = NO_EXPIRY < membership.expiry_day < TODAY
                if membership.audience_id != audience_id or is_over:
                    continue
                members += 1
                who = {each.account_id for each in record.opt_outs}
                opted_out += bool(who & {EVERYONE, *forbidding})
                if membership.expiry_day != NO_EXPIRY:
                    ends[membership.expiry_day] += 1
        counts[audience_id] = AudienceCount(
            audience_id, TODAY, NOW_S, members, opted_out, dict(ends)
        )
    return counts


async def test_census_is_the_recount_while_a_loader_writes(redis_client: Redis, meta: Meta) -> None:
    random = Random(7)
    drawn = [random_record(random) for _ in range(3_000)]
    # A record of nothing is not kept.
    id_to_record = {Id(random.randbytes(16)): record for record in drawn if record != NOTHING}
    for id_, record in id_to_record.items():
        key = keys.bucket_key(keys.bucket_of(id_, meta.bucket_bits))
        await redis_client.hset(key, keys.field_of(id_), pack(record))
    writer = Writer(redis_client, meta)
    over = asyncio.Event()

    async def load() -> int:
        times = 0
        while not over.is_set():
            await writer.merge(list(id_to_record), [Change(WRITTEN, is_add=times % 2 == 0)])
            times += 1
        return times

    loading = asyncio.create_task(load())
    members = Members(FORBIDDING, TODAY)
    await count(redis_client, meta.bucket_bits, members)
    over.set()

    assert await loading > 0
    counts = {each.audience_id: each for each in members.counts(NOW_S)}
    assert counts == recounted(list(id_to_record.values()))
    assert members.persons == len(id_to_record)


async def test_no_bid_waits_longer_for_the_census_than_for_a_sweep(
    redis_client: Redis, meta: Meta
) -> None:
    """Both take as many buckets in a round trip: their longest commands are compared."""
    random = Random(3)
    for bucket in range(1 << meta.bucket_bits):
        records = [random_record(random) for _ in range(60)]
        fields = [part for n, each in enumerate(records) for part in (b"%08d" % n, pack(each))]
        await redis_client.hset(keys.bucket_key(bucket), items=fields)
    writer = Writer(redis_client, meta)

    async def slowest_us(command: bytes, work: Callable[[], Awaitable[object]]) -> int:
        times: list[int] = []
        for _ in range(3):
            await redis_client.slowlog_reset()
            await work()
            logged = await redis_client.slowlog_get(_LOGGED)
            times.append(max(e["duration"] for e in logged if e["command"].startswith(command)))
        return min(times)

    async def sweep() -> None:
        async for buckets in buckets_of(redis_client):
            await writer.sweep(buckets, TODAY, [])

    async def configure(settings: dict[str, str]) -> None:
        for name, value in settings.items():
            await redis_client.config_set(name, value)

    log = {"slowlog-log-slower-than": "0", "slowlog-max-len": str(_LOGGED)}
    before = {name: str((await redis_client.config_get(name))[name]) for name in log}
    await configure(log)
    try:
        of_census = await slowest_us(
            b"HVALS", lambda: count(redis_client, meta.bucket_bits, Members(FORBIDDING, TODAY))
        )
        of_sweep = await slowest_us(b"EVALSHA", sweep)
    finally:
        await configure(before)
    assert of_census <= of_sweep


async def test_record_that_can_t_be_read_is_counted_as_unreadable_alone(
    redis_client: Redis, meta: Meta
) -> None:
    field = b"\0" * keys.FIELD_BYTES
    good = pack(Record((), (Membership(1),)))
    await redis_client.hset(keys.bucket_key(0), mapping={field: b"\xff", b"good" * 2: good})

    members = Members(FORBIDDING, TODAY)
    await count(redis_client, meta.bucket_bits, members)

    assert members.counts(NOW_S)[0].members == 1
    assert (members.persons, members.unreadable) == (2, 1)
