"""What the writer and its scripts promise, on every engine that we promise to run on."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import ClusterDownError

from segments.model.identity import ID_BYTES, Id
from segments.model.record import (
    EVERYONE,
    NOTHING,
    Change,
    CorruptRecord,
    Membership,
    NewerRecord,
    OptOut,
    OptOutAction,
    Record,
    Tally,
    merged,
    opted_out,
    pack,
    swept,
    unpack,
)
from segments.store import keys
from segments.store.meta import LISTPACK_ENTRIES, prepare
from segments.store.reader import Meta, StoreUnusable, read_records
from segments.store.script_calls import ROWS_PER_CALL
from segments.store.servers.connection import connect
from segments.store.writer import Matched, Writer
from tests.conftest import EXPECTED_IDS
from tests.engines import Engine, free_port
from tests.strategies import (
    account_ids,
    audience_ids,
    changes,
    damaged,
    expiry_days,
    opt_outs,
    records,
)

ADD = Change(1, is_add=True, expiry_day=2500)
REMOVE = Change(1, is_add=False)
GLOBAL_RESTRICT = OptOut(EVERYONE, OptOutAction.RESTRICT)

on_one_store = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def id_of(number: int, bucket: int = 0) -> Id:
    """Make an id of the first bucket, or of another of the 128 that the tests' store has."""
    return Id((bucket << 25).to_bytes(4) + number.to_bytes(8) + bytes(4))


IDS = [id_of(number) for number in range(4)] + [id_of(number, bucket=77) for number in range(4)]


class Rig:
    """A store, its writer, and the bytes that it holds."""

    def __init__(self, redis: Redis, meta: Meta) -> None:
        self.redis = redis
        self.meta = meta
        self.writer = Writer(redis, meta)

    async def empty(self) -> None:
        """Forget what an example before this one has written."""
        await self.redis.delete(*{self._key(id_) for id_ in IDS})

    async def put(self, id_: Id, raw: bytes) -> None:
        """Write bytes where the record of an id stands."""
        await self.redis.hset(self._key(id_), mapping={keys.field_of(id_): raw})

    async def raw(self, id_: Id) -> bytes | None:
        """Read the bytes of an id's record."""
        key = self._key(id_).decode()
        [raw] = await self.redis.hmget(key, [keys.field_of(id_)])
        return raw  # type: ignore[return-value] # ... and given

    def _key(self, id_: Id) -> bytes:
        return keys.bucket_key(keys.bucket_of(id_, self.meta.bucket_bits))


@pytest.fixture
def rig(redis_client: Redis, meta: Meta) -> Rig:
    """A store that lives through all examples of a property."""
    return Rig(redis_client, meta)


def expected_raw(record: Record) -> bytes | None:
    """A record of nothing is not kept."""
    return None if record == NOTHING else pack(record)


@on_one_store
@given(
    held=st.lists(records, min_size=len(IDS), max_size=len(IDS)),
    rows=st.lists(st.integers(0, len(IDS) - 1), min_size=1, max_size=12),
    batch=st.lists(changes, min_size=1, max_size=5),
)
async def test_merge_in_the_store_is_the_merge_of_the_model(
    rig: Rig, held: list[Record], rows: list[int], batch: list[Change]
) -> None:
    await rig.empty()
    for id_, record in zip(IDS, held, strict=True):
        await rig.put(id_, pack(record))

    tallies = await rig.writer.merge_each([IDS[row] for row in rows], batch)

    expected = [Tally()] * len(batch)
    for row, (id_, record) in enumerate(zip(IDS, held, strict=True)):
        after = record
        if row in rows:
            after, counted = merged(record, batch)
            expected = [sum_ + one for sum_, one in zip(expected, counted, strict=True)]
            assert await rig.raw(id_) == expected_raw(after)
        else:
            assert await rig.raw(id_) == pack(after)
    assert list(tallies) == expected


@on_one_store
@given(
    held=st.lists(st.none() | records, min_size=60, max_size=60),
    random=st.randoms(use_true_random=False),
    rows=st.integers(1, 60),
    batch=st.lists(changes, min_size=1, max_size=3),
)
async def test_merge_of_many_in_one_bucket_is_the_merge_of_the_model(
    rig: Rig, held: list[Record | None], random: Random, rows: int, batch: list[Change]
) -> None:
    """
    Where the script takes the whole bucket: fields stand there in any order, or don't.
    """
    ids = [id_of(number) for number in range(len(held))]
    id_to_record = dict(zip(ids, held, strict=True))
    await rig.redis.delete("seg:1:m:0")
    for id_ in random.sample(ids, len(ids)):
        if (record := id_to_record[id_]) is not None:
            await rig.put(id_, pack(record))

    chosen = random.sample(ids, rows)
    tallies = await rig.writer.merge_each(chosen, batch)

    expected = [Tally()] * len(batch)
    for id_, held_record in id_to_record.items():
        record = held_record or NOTHING
        if id_ in chosen:
            record, counted = merged(record, batch)
            expected = [sum_ + one for sum_, one in zip(expected, counted, strict=True)]
            assert await rig.raw(id_) == expected_raw(record)
        else:
            assert await rig.raw(id_) == (None if held_record is None else pack(record))
    assert list(tallies) == expected


@on_one_store
@given(
    held=st.lists(records, min_size=len(IDS), max_size=len(IDS)),
    opt_out=opt_outs,
    erased=st.none() | st.sets(audience_ids, max_size=5),
)
async def test_opt_out_in_the_store_is_the_opt_out_of_the_model(
    rig: Rig, held: list[Record], opt_out: OptOut, erased: set[int] | None
) -> None:
    await rig.empty()
    for id_, record in zip(IDS[1:], held[1:], strict=True):
        await rig.put(id_, pack(record))

    await rig.writer.opt_out([*IDS, *IDS], opt_out, erased)

    for id_, record in zip(IDS, [NOTHING, *held[1:]], strict=True):
        assert await rig.raw(id_) == pack(opted_out(record, opt_out, erased))


@on_one_store
@given(
    st.lists(records, min_size=len(IDS), max_size=len(IDS)),
    expiry_days,
    st.frozensets(audience_ids, max_size=4),
)
async def test_sweep_in_the_store_is_the_sweep_of_the_model(
    rig: Rig, before: list[Record], today: int, deleted: frozenset[int]
) -> None:
    await rig.empty()
    for id_, record in zip(IDS, before, strict=True):
        await rig.put(id_, pack(record))
    after = [swept(record, today, deleted) for record in before]

    dropped, unreadable = await rig.writer.sweep([0, 77], today, deleted)

    assert [await rig.raw(id_) for id_ in IDS] == [
        None if record == NOTHING else pack(record) for record in after
    ]
    assert dropped == sum(
        len(b.memberships) - len(a.memberships) for a, b in zip(after, before, strict=True)
    )
    assert unreadable == []


@settings(on_one_store, max_examples=200)
@given(damaged | st.binary(max_size=24))
@example(b"\x10" + b"\x80" * 400 + b"\x01\x00\x00")
@example(b"\x10\xff\xff\xff\xff\x1f\x00\x00")
@example(b"\x10\x85\x00\x00\x00")
@example(b"\x10\x05\x00")
@example(b"\x10\x05\x00\x00\x05\x00\x00")
@example(b"\x11\x00")
@example(b"\x11\x02\x02\x05\x01\x05")
@example(b"\x11\x02\x01\x05\x01\x05")
@example(b"\x11\x02\x01\x05\x01\x04")
@example(b"\x11\x01\x03\x00")
@example(b"\x12")
@example(b"\x20")
@example(b"")
async def test_script_refuses_exactly_what_unpack_refuses(rig: Rig, raw: bytes) -> None:
    try:
        unpack(raw)
        refusal = None
    except CorruptRecord as error:
        refusal = type(error)

    await rig.empty()
    await rig.put(IDS[0], raw)
    for write in (
        lambda: rig.writer.merge(IDS[:3], [Change(9, is_add=False)]),
        lambda: rig.writer.opt_out(IDS[:3], GLOBAL_RESTRICT),
    ):
        if refusal is None:
            await write()
        else:
            with pytest.raises(refusal, match=r"bucket 0 of the store") as caught:
                await write()
            assert type(caught.value) is refusal
            assert await rig.raw(IDS[0]) == raw
            assert await rig.raw(IDS[1]) is None
    _, unreadable = await rig.writer.sweep([0], 0, [])
    assert [type(error) for error in unreadable] == ([refusal] if refusal else [])


@on_one_store
@given(st.lists(st.tuples(st.sampled_from(IDS), changes | opt_outs), max_size=12))
async def test_any_history_leaves_canonical_records(
    rig: Rig, history: list[tuple[Id, Change | OptOut]]
) -> None:
    model = dict.fromkeys(IDS, NOTHING)
    await rig.empty()
    for id_, deed in history:
        if isinstance(deed, OptOut):
            model[id_] = opted_out(model[id_], deed)
            await rig.writer.opt_out([id_], deed)
        else:
            model[id_], _ = merged(model[id_], [deed])
            await rig.writer.merge([id_], [deed])

    assert await read_records(rig.redis, rig.meta, IDS) == list(model.values())
    assert [await rig.raw(id_) for id_ in IDS] == list(map(expected_raw, model.values()))


async def test_many_random_ids_are_merged_and_found(
    redis_client: Redis, meta: Meta, writer: Writer
) -> None:
    ids = np.random.default_rng(7).integers(0, 256, (5_000, 16), np.uint8)
    twice = np.concatenate([ids, ids])

    first = await writer.merge(twice, [ADD])
    second = await writer.merge(ids, [ADD])

    some = [Id(row.tobytes()) for row in ids[::50]]
    assert first == Tally(added=5_000)
    assert second == Tally(unchanged=5_000)
    assert set(await read_records(redis_client, meta, some)) == {Record((), (Membership(1, 2500),))}


@pytest.mark.parametrize("crowd", [19, 20, 300, 600, 1500])
async def test_crowded_bucket_is_merged_like_any_other(writer: Writer, crowd: int) -> None:
    """
    From few fields to more than a listpack, or one call, takes.
    """
    ids = [id_of(number) for number in range(crowd)]

    tallies = [
        await writer.merge(ids[: crowd // 2], [ADD]),
        await writer.merge(ids, [ADD]),
        await writer.merge(ids[: crowd // 10], [REMOVE]),
        await writer.merge(ids, [ADD._replace(expiry_day=0)]),
    ]

    few, half = crowd // 10, crowd // 2
    assert tallies == [
        Tally(added=half),
        Tally(added=crowd - half, unchanged=half),
        Tally(removed=few),
        Tally(added=few, renewed=crowd - few),
    ]
    assert await writer.sweep([0], 1, [1]) == (crowd, [])


async def test_person_in_very_many_audiences_is_kept_whole(
    redis_client: Redis, meta: Meta, writer: Writer
) -> None:
    batch = [Change(number * 300, is_add=True) for number in range(1, 801)]
    for at in range(0, len(batch), 50):
        await writer.merge(IDS[:1], batch[at : at + 50])

    [record] = await read_records(redis_client, meta, IDS[:1])
    assert record == merged(NOTHING, batch)[0]


@pytest.mark.parametrize("account_id", [EVERYONE, 7], ids=["everybody's", "the owner's"])
async def test_opt_out_wins_over_a_membership_written_later(
    redis_client: Redis, meta: Meta, writer: Writer, account_id: int
) -> None:
    """The ids of one bucket share a call: that of the others is written."""
    await writer.opt_out(IDS[:1], OptOut(account_id, OptOutAction.RESTRICT))

    tally = await writer.merge(IDS[:2], [Change(1, is_add=True, forbidden_by=frozenset({7}))])

    silent, other = await read_records(redis_client, meta, IDS[:2])
    assert (silent.memberships, [m.audience_id for m in other.memberships]) == ((), [1])
    assert tally == Tally(added=1, refused=1)


async def test_bucket_that_lost_its_last_record_is_gone(
    redis_client: Redis, writer: Writer
) -> None:
    await writer.merge(IDS, [ADD])
    await writer.merge(IDS, [REMOVE])

    assert [key async for key in redis_client.scan_iter(match="seg:1:m:*")] == []


@pytest.mark.parametrize(
    ("ids", "batch"),
    [pytest.param([], [ADD], id="no ids"), pytest.param(IDS, [], id="no changes")],
)
async def test_merge_of_nothing_does_nothing(
    writer: Writer, ids: Sequence[Id], batch: Sequence[Change]
) -> None:
    assert await writer.merge(ids, batch) == Tally()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(Change(0, is_add=True), id="audience zero"),
        pytest.param(Change(1, is_add=True, expiry_day=2**16), id="day too large"),
    ],
)
async def test_change_that_could_not_be_read_again_is_not_written(
    redis_client: Redis, writer: Writer, change: Change
) -> None:
    with pytest.raises(ValueError, match="out of range"):
        await writer.merge(IDS, [ADD, change])

    assert await redis_client.keys("seg:1:m:*") == []


async def test_scripts_are_sent_again_when_the_store_forgot_them(
    redis_client: Redis, writer: Writer
) -> None:
    await writer.merge(IDS, [ADD])
    await redis_client.script_flush()

    assert await writer.merge(IDS, [REMOVE]) == Tally(removed=len(IDS))


async def test_writer_goes_on_after_a_restart_that_lost_nothing(
    engine: Engine, redis_client: Redis, meta: Meta, writer: Writer
) -> None:
    await writer.merge(IDS, [ADD])
    await writer.opt_out(IDS[:1], GLOBAL_RESTRICT)

    engine.restart()

    assert await writer.merge(IDS, [ADD]) == Tally(unchanged=len(IDS) - 1, refused=1)
    [record] = await read_records(redis_client, meta, IDS[:1])
    assert record == Record((GLOBAL_RESTRICT,), (Membership(1, 2500),))


async def test_other_buckets_are_written_beside_a_corrupt_one(
    redis_client: Redis, meta: Meta, writer: Writer
) -> None:
    await redis_client.hset("seg:1:m:0", mapping={keys.field_of(IDS[0]): b"\x10\x05"})

    with pytest.raises(CorruptRecord, match=r"bucket 0 of the store: a record: cut short$"):
        await writer.merge(IDS, [ADD])

    other_bucket = await read_records(redis_client, meta, IDS[4:])
    assert other_bucket == [Record((), (Membership(1, 2500),))] * 4
    assert await redis_client.hlen("seg:1:m:0") == 1


async def test_corrupt_record_is_an_error_for_the_reader_that_names_the_bucket(
    redis_client: Redis, meta: Meta
) -> None:
    await redis_client.hset("seg:1:m:4d", mapping={keys.field_of(IDS[4]): b"\x20"})

    with pytest.raises(NewerRecord, match="bucket 4d of the store"):
        await read_records(redis_client, meta, IDS)


async def test_store_that_was_laid_out_anew_gets_no_rows_of_the_old_layout(
    redis_client: Redis, writer: Writer
) -> None:
    await redis_client.flushall()
    await prepare(redis_client, EXPECTED_IDS * 100)

    with pytest.raises(StoreUnusable, match="laid out anew"):
        await writer.merge(IDS, [ADD])


async def test_store_that_was_emptied_gets_no_rows(redis_client: Redis, writer: Writer) -> None:
    """
    Memberships alone, without the opt-outs, would be a store that forgot every no.
    """
    await redis_client.flushall()

    with pytest.raises(StoreUnusable, match="start the loader"):
        await writer.merge(IDS, [ADD])


async def test_full_store_refuses_without_quoting_what_it_was_sent(
    redis_client: Redis, writer: Writer
) -> None:
    await writer.merge(IDS, [REMOVE])
    await redis_client.config_set("maxmemory", "1")

    with pytest.raises(StoreUnusable, match="refuses to write bucket 0: OOM"):
        await writer.merge(IDS, [ADD])


async def test_two_writers_at_once_lose_nothing_of_each_other(
    engine: Engine, redis_client: Redis, meta: Meta
) -> None:
    ids = [id_of(number, bucket) for number in range(50) for bucket in range(40)]
    async with connect(engine.url) as other_client:
        writers = [Writer(redis_client, meta), Writer(other_client, meta)]

        tallies = await asyncio.gather(
            *(writers[n % 2].merge(ids, [Change(n + 1, is_add=True)]) for n in range(6)),
            writers[0].opt_out(ids, OptOut(9, OptOutAction.RESTRICT)),
        )

    found = Counter(await read_records(redis_client, meta, ids))
    everything = Record(
        (OptOut(9, OptOutAction.RESTRICT),), tuple(Membership(n + 1) for n in range(6))
    )
    assert found == {everything: len(ids)}
    assert tallies[:6] == [Tally(added=len(ids))] * 6


async def test_person_costs_at_most_40_bytes(redis_client: Redis) -> None:
    """
    Five segments each; of a store whose size was foreseen.
    """
    persons = 100_000
    writer = Writer(redis_client, await prepare(redis_client, persons))
    empty = (await redis_client.info("memory"))["used_memory"]
    ids = np.random.default_rng(3).integers(0, 256, (persons, 16), np.uint8)

    await writer.merge(ids, [Change(n, is_add=True, expiry_day=2500) for n in range(1, 6)])

    used = (await redis_client.info("memory"))["used_memory"]
    assert (used - empty) / persons <= 40


async def test_scripts_run_in_a_cluster(engine_name: str) -> None:
    """
    A cluster refuses a script that touches a key it did not name, or two in different slots.
    """
    cluster = Engine(engine_name, extra=["--cluster-enabled", "yes", "--cluster-port", free_port()])
    cluster.start()
    try:
        async with connect(cluster.url) as redis:
            await redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)  # type: ignore[no-untyped-call] # redis-py
            await until_cluster_is_ok(redis)
            meta = await prepare(redis, EXPECTED_IDS)
            writer = Writer(redis, meta)

            tally = await writer.merge(IDS, [ADD])
            await writer.opt_out(IDS, GLOBAL_RESTRICT)

            assert tally == Tally(added=len(IDS))
            assert set(await read_records(redis, meta, IDS)) == {
                Record((GLOBAL_RESTRICT,), (Membership(1, 2500),))
            }
    finally:
        cluster.remove()


async def until_cluster_is_ok(redis: Redis) -> None:
    """Wait for a cluster of one that has just got its slots."""
    async with asyncio.timeout(20):
        while True:
            try:
                await redis.exists(keys.META)
            except ClusterDownError:
                await asyncio.sleep(0.05)
            else:
                return


def test_call_is_never_larger_than_what_a_listpack_may_hold() -> None:
    assert ROWS_PER_CALL <= LISTPACK_ENTRIES


@on_one_store
@given(
    held=st.lists(records, min_size=len(IDS), max_size=len(IDS)),
    forbidding=st.sets(account_ids, max_size=3),
)
async def test_match_in_the_store_counts_what_is_known_and_what_of_it_may_be_used(
    rig: Rig, held: list[Record], forbidding: set[int]
) -> None:
    await rig.empty()
    for id_, record in zip(IDS[1:], held[1:], strict=True):
        await rig.put(id_, pack(record))
    asked = np.frombuffer(b"".join([*IDS, *IDS]), np.uint8).reshape(-1, ID_BYTES)

    matched = await rig.writer.match(asked, forbidding)

    known = [record for record in held[1:] if record != NOTHING]
    usable = [
        record
        for record in known
        if not {opt_out.account_id for opt_out in record.opt_outs} & {EVERYONE, *forbidding}
    ]
    assert matched == Matched(len(IDS), len(known), len(usable))
    for id_, record in zip(IDS[1:], held[1:], strict=True):
        assert await rig.raw(id_) == pack(record)


async def test_match_of_nothing_asks_nothing(writer: Writer) -> None:
    assert await writer.match(np.empty((0, ID_BYTES), np.uint8), [1]) == Matched()
