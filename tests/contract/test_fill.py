"""
What RESTORE makes of a bucket that was not there: the same as the merge script.

Redis is told here not to trust a payload: `sanitize-dump-payload` has it check
each entry, and that no field stands twice. Valkey has no such setting.
"""

from collections.abc import AsyncIterator

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from segments.model.identity import Id
from segments.model.record import (
    EVERYONE,
    Change,
    Membership,
    OptOut,
    OptOutAction,
    Record,
    Tally,
    merged,
    pack,
)
from segments.store import keys
from segments.store.alike_payloads import payloads
from segments.store.meta import LISTPACK_ENTRIES
from segments.store.reader import Meta, read_records
from segments.store.restore_payload import (
    MAX_RECORD_BYTES,
    payload_of,
    record_entry,
)
from segments.store.script_calls import CALLS_PER_SLICE
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from tests.engines import Engine
from tests.strategies import changes, records

ADD = Change(1, is_add=True, expiry_day=2500)
REMOVE = Change(1, is_add=False)
HELD = Record((), (Membership(1, 2500),))

BUCKETS = 12
IDS_PER_BUCKET = 3

on_one_store = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def id_of(number: int, bucket: int = 0) -> Id:
    """Make an id of the first bucket, or of another of the 128 that the tests' store has."""
    return Id((bucket << 25).to_bytes(4) + number.to_bytes(8) + bytes(4))


IDS = [id_of(n, bucket) for bucket in range(BUCKETS) for n in range(IDS_PER_BUCKET)]


@pytest.fixture
async def redis_client(engine: Engine) -> AsyncIterator[Redis]:
    """A client of a server that looks closely at what it is to restore, if it can."""
    async with connect(engine.url) as client:
        if engine.name == "redis":
            await client.config_set("sanitize-dump-payload", "yes")
        yield client
        if engine.name == "redis":
            await client.config_set("sanitize-dump-payload", "no")


async def times(redis: Redis, command: str) -> int:
    """Count the calls of a command that the server has answered."""
    stats = await redis.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


@on_one_store
@given(
    fields=st.sets(st.binary(min_size=8, max_size=8), min_size=1, max_size=40),
    record=st.binary(min_size=1, max_size=MAX_RECORD_BYTES),
)
@example(fields={b"12345678", b"-1234567", b"00000001", b"99999999", b"-0000001"}, record=b"\x10")
@example(fields={n.to_bytes(8) for n in range(LISTPACK_ENTRIES)}, record=bytes(MAX_RECORD_BYTES))
@example(fields={n.to_bytes(8) for n in range(LISTPACK_ENTRIES)}, record=bytes(3))
@example(fields={bytes(8)}, record=bytes(63))
@example(fields={bytes(8)}, record=bytes(64))
@example(fields={bytes(8)}, record=bytes(125))
@example(fields={bytes(8)}, record=bytes(126))
async def test_restored_bucket_is_a_hash_like_any_other(
    redis_client: Redis, fields: set[bytes], record: bytes
) -> None:
    await redis_client.delete("one", "other")

    one, other = payloads([b"".join(fields), bytes(8)], record)
    await redis_client.restore("one", 0, one)
    await redis_client.restore("other", 0, other)

    assert await redis_client.hgetall("one") == dict.fromkeys(fields, record)
    assert await redis_client.hgetall("other") == {bytes(8): record}
    assert await redis_client.object("ENCODING", "one") == b"listpack"
    assert await redis_client.hmget("one", sorted(fields)) == [record] * len(fields)
    added = await redis_client.hset("one", mapping=dict.fromkeys(fields, b"another"))
    assert (added, await redis_client.hlen("one")) == (0, len(fields))
    assert await redis_client.hdel("one", *fields) == len(fields)


@on_one_store
@given(
    held=st.dictionaries(
        st.binary(min_size=8, max_size=8), st.binary(min_size=1, max_size=200), min_size=1
    )
)
@example(held={n.to_bytes(8): bytes(n + 1) for n in range(LISTPACK_ENTRIES)})
@example(held={n.to_bytes(8): b"%d" % n for n in range(40_000)})  # more than the head can count
@example(held={bytes(8): bytes(MAX_RECORD_BYTES + 1)})
@example(held={bytes(8): bytes(4095), b"12345678": bytes(4096), b"x" * 8: bytes(70_000)})
async def test_bucket_of_different_records_is_restored_whatever_its_size(
    redis_client: Redis, held: dict[bytes, bytes]
) -> None:
    await redis_client.delete("one")

    payload = payload_of(list(held), list(map(record_entry, held.values())))
    await redis_client.restore("one", 0, payload)

    assert await redis_client.hgetall("one") == held
    if len(held) > LISTPACK_ENTRIES:
        assert await redis_client.object("ENCODING", "one") == b"hashtable"


@on_one_store
@given(
    held=st.dictionaries(st.sampled_from(IDS), records, max_size=8),
    rows=st.lists(st.sampled_from(IDS), min_size=1, max_size=2 * len(IDS)),
    batch=st.lists(changes, min_size=1, max_size=5),
)
async def test_merge_beside_and_into_buckets_that_are_there_is_the_merge_of_the_model(
    redis_client: Redis,
    meta: Meta,
    held: dict[Id, Record],
    rows: list[Id],
    batch: list[Change],
) -> None:
    bucket_of = {id_: keys.bucket_key(keys.bucket_of(id_, meta.bucket_bits)) for id_ in IDS}
    await redis_client.delete(*set(bucket_of.values()))
    for id_, record in held.items():
        await redis_client.hset(bucket_of[id_], mapping={keys.field_of(id_): pack(record)})

    tallies = await Writer(redis_client, meta).merge_each(rows, batch)

    expected = [Tally()] * len(batch)
    for id_ in IDS:
        raw = await redis_client.hget(bucket_of[id_], keys.field_of(id_))
        before = held.get(id_, Record())
        if id_ in rows:
            after, counted = merged(before, batch)
            expected = [sum_ + one for sum_, one in zip(expected, counted, strict=True)]
            assert raw == (None if after == Record() else pack(after))
        else:
            assert raw == (pack(before) if id_ in held else None)
    assert list(tallies) == expected


async def test_merge_into_an_empty_store_needs_no_script(
    redis_client: Redis, meta: Meta, writer: Writer
) -> None:
    ids = np.random.default_rng(7).integers(0, 256, (5_000, 16), np.uint8)
    scripts_before = await times(redis_client, "evalsha")

    tally = await writer.merge(np.concatenate([ids, ids]), [ADD])

    assert tally == Tally(added=5_000)
    assert await times(redis_client, "evalsha") == scripts_before
    some = [Id(row.tobytes()) for row in ids[::50]]
    assert set(await read_records(redis_client, meta, some)) == {HELD}


async def test_merge_into_a_store_that_has_its_buckets_tries_to_make_only_a_few(
    redis_client: Redis, writer: Writer
) -> None:
    ids = np.random.default_rng(7).integers(0, 256, (5_000, 16), np.uint8)
    await writer.merge(ids, [ADD])
    restores_before = await times(redis_client, "restore")

    tally = await writer.merge(ids, [ADD._replace(audience_id=2)])

    assert tally == Tally(added=5_000)
    assert await times(redis_client, "restore") - restores_before <= CALLS_PER_SLICE


async def test_merge_goes_on_making_buckets_behind_a_few_that_are_there(
    redis_client: Redis, writer: Writer
) -> None:
    """
    The last bucket of one batch is the first of the next, often.
    """
    ids = [id_of(1, bucket) for bucket in range(4 * CALLS_PER_SLICE)]
    there = ids[: CALLS_PER_SLICE // 3]
    await writer.merge(there, [ADD])
    await writer.merge(there, [ADD])  # now the server knows the script, too
    scripts_before = await times(redis_client, "evalsha")

    tally = await writer.merge(ids, [ADD])

    assert tally == Tally(added=len(ids) - len(there), unchanged=len(there))
    assert await times(redis_client, "evalsha") - scripts_before == len(there)


async def test_removal_never_makes_a_bucket(redis_client: Redis, writer: Writer) -> None:
    restores_before = await times(redis_client, "restore")

    assert await writer.merge(IDS, [REMOVE]) == Tally(unchanged=len(IDS))

    assert await redis_client.keys("seg:1:m:*") == []
    assert await times(redis_client, "restore") == restores_before


async def test_bucket_of_an_opt_out_alone_keeps_it(
    redis_client: Redis, meta: Meta, writer: Writer
) -> None:
    """
    The tombstone is there before the file that would bring the person.
    """
    no = OptOut(EVERYONE, OptOutAction.ERASURE)
    await writer.opt_out(IDS[:1], no)

    tally = await writer.merge(IDS, [ADD])

    assert tally == Tally(added=len(IDS) - 1, refused=1)
    found = await read_records(redis_client, meta, IDS)
    assert found == [Record((no,)), *[HELD] * (len(IDS) - 1)]


async def test_opt_out_reaches_who_was_restored(
    redis_client: Redis, meta: Meta, writer: Writer
) -> None:
    no = OptOut(7, OptOutAction.RESTRICT)
    await writer.merge(IDS, [ADD])

    await writer.opt_out(IDS, no)

    assert set(await read_records(redis_client, meta, IDS)) == {HELD._replace(opt_outs=(no,))}


async def test_restored_buckets_outlive_a_restart(
    engine: Engine, redis_client: Redis, meta: Meta, writer: Writer
) -> None:
    await writer.merge(IDS, [ADD])

    engine.restart()

    assert await read_records(redis_client, meta, IDS) == [HELD] * len(IDS)


async def test_where_restore_is_forbidden_the_script_does_it_all(
    engine: Engine, redis_client: Redis, meta: Meta
) -> None:
    """
    Its commands are of the category that managed stores withhold first: @dangerous.
    """
    await redis_client.acl_setuser(
        "loader", enabled=True, nopass=True, keys="*", commands=["+@all", "-restore"]
    )
    try:
        async with connect(engine.url, username="loader", password="any") as loader:
            tally = await Writer(loader, meta).merge(IDS, [ADD])
    finally:
        await redis_client.acl_deluser("loader")

    assert tally == Tally(added=len(IDS))
    assert await read_records(redis_client, meta, IDS) == [HELD] * len(IDS)


async def test_crowd_of_more_than_a_listpack_takes_is_added_whole(
    redis_client: Redis, writer: Writer
) -> None:
    ids = [id_of(number) for number in range(LISTPACK_ENTRIES * 3)]

    assert await writer.merge(ids, [ADD]) == Tally(added=len(ids))

    assert await redis_client.hlen("seg:1:m:0") == len(ids)


async def test_record_too_long_for_a_listpack_is_left_to_the_script(
    redis_client: Redis, meta: Meta, writer: Writer
) -> None:
    batch = [Change(number * 300, is_add=True) for number in range(1, 301)]
    restores_before = await times(redis_client, "restore")

    assert await writer.merge(IDS[:2], batch) == Tally(added=600)

    assert await times(redis_client, "restore") == restores_before
    record, _ = merged(Record(), batch)
    assert await read_records(redis_client, meta, IDS[:2]) == [record] * 2
