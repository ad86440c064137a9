"""What is kept, beside a model that keeps all; and what it takes in memory."""

import tracemalloc
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtb.lookup.near_cache.records import ENTRY_BYTES, NOTHING, RecordCache
from segments.store.keys import bucket_of

BITS = 4
IDS = [bytes([n << 3 & 0xFF]) + bytes(14) + bytes([n]) for n in range(64)]
"""Sixteen buckets of four; all that are in the last eight share theirs."""

RECORD = b"record"


def room_for(entries: int) -> int:
    return entries * (ENTRY_BYTES + len(RECORD))


def test_absent_nothing_and_record_are_told_apart() -> None:
    kept = RecordCache(room_for(2), BITS)
    kept.put(IDS[0], NOTHING)
    kept.put(IDS[1], RECORD)

    assert [kept.get(id_) for id_ in IDS[:3]] == [NOTHING, RECORD, None]


def test_whoever_is_asked_for_stays_and_whoever_came_once_goes() -> None:
    kept = RecordCache(room_for(10), BITS)
    for id_ in IDS:
        kept.put(id_, RECORD)
        kept.get(IDS[0])

    assert kept.get(IDS[0]) == RECORD
    assert len(kept) == 10
    assert kept.evictions == len(IDS) - 10


def test_bucket_is_dropped_whole_and_no_other() -> None:
    kept = RecordCache(room_for(64), BITS)
    for id_ in IDS:
        kept.put(id_, RECORD)
    bucket = bucket_of(IDS[5], BITS)
    theirs = [id_ for id_ in IDS if bucket_of(id_, BITS) == bucket]

    dropped = kept.drop(bucket)

    assert dropped == len(theirs) > 1
    assert [id_ for id_ in IDS if kept.get(id_) is None] == theirs
    assert kept.drop(bucket) == 0


def test_record_larger_than_all_the_room_is_not_kept_and_nothing_goes_for_it() -> None:
    kept = RecordCache(room_for(2), BITS)
    kept.put(IDS[0], RECORD)

    kept.put(IDS[1], bytes(room_for(2)))

    assert kept.get(IDS[0]) == RECORD
    assert kept.get(IDS[1]) is None


steps = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(IDS), st.binary(max_size=40)),
    st.tuples(st.just("get"), st.sampled_from(IDS), st.none()),
    st.tuples(st.just("drop"), st.sampled_from(IDS), st.none()),
    st.tuples(st.just("clear"), st.sampled_from(IDS), st.none()),
)


@given(st.lists(steps, max_size=200), st.integers(0, room_for(12)))
def test_what_is_kept_was_put_last_and_never_more_than_there_is_room(
    taken: list[tuple[str, bytes, bytes | None]], max_bytes: int
) -> None:
    kept = RecordCache(max_bytes, BITS)
    model: dict[bytes, bytes] = {}
    for step, id_, record in taken:
        if record is not None:
            kept.put(id_, record)
            model[id_] = record
        elif step == "get":
            found = kept.get(id_)
            assert found is None or found == model[id_]
        elif step == "drop":
            bucket = bucket_of(id_, BITS)
            held = sum(kept.get(one) is not None for one in IDS if bucket_of(one, BITS) == bucket)
            assert kept.drop(bucket) == held
            model = {one: r for one, r in model.items() if bucket_of(one, BITS) != bucket}
        else:
            kept.clear()
            model.clear()
        there = {one: r for one in IDS if (r := kept.get(one)) is not None}
        assert there.items() <= model.items()
        assert kept.total_bytes == sum(ENTRY_BYTES + len(r) for r in there.values()) <= max_bytes


@pytest.mark.parametrize("bucket_bits", [10, 24])
@pytest.mark.parametrize("entries", [5_400, 5_500], ids=["full tables", "tables just grown"])
def test_entries_take_no_more_memory_than_is_counted(bucket_bits: int, entries: int) -> None:
    """
    An operator gives so many bytes and has to find them.
    """
    rng = Random(1)
    max_bytes = entries * (ENTRY_BYTES + 12)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = RecordCache(max_bytes, bucket_bits)
        while not kept.evictions:
            kept.put(rng.randbytes(16), rng.randbytes(12))
        full = tracemalloc.get_traced_memory()[0] - before
        for _ in range(2 * entries):
            kept.put(rng.randbytes(16), rng.randbytes(12))
        turned = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert 0.3 * max_bytes < full <= max_bytes
    assert turned <= max_bytes
