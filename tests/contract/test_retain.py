"""Taking out of an audience whom a file does not name, on both engines."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from segments.ingest.external_audience import replace as retain_module
from segments.ingest.external_audience.delta import coming_and_leaving, delta_of
from segments.ingest.external_audience.replace import replace_members
from segments.ingest.spool import PARTS, Spool
from segments.model.identity import Id
from segments.model.record import (
    Change,
    CorruptRecord,
    Membership,
    OptOut,
    OptOutAction,
    Record,
    pack,
    without,
)
from segments.model.stop_reason import Stopped
from segments.store import keys
from segments.store.reader import Meta, read_records
from segments.store.writer import Writer
from tests.strategies import records

IDS = [Id(hashlib.sha256(b"%d" % n).digest()[:16]) for n in range(300)]
AUDIENCE = 7


def spool_of(folder: Path, ids: list[Id]) -> Spool:
    spool = Spool(folder, 64)
    spool.add(np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16))
    spool.finish()
    return spool


async def put(redis: Redis, meta: Meta, id_: Id, raw: bytes) -> None:
    key = keys.bucket_key(keys.bucket_of(id_, meta.bucket_bits))
    await redis.hset(key, mapping={keys.field_of(id_): raw})


async def test_only_those_who_are_not_named_leave_and_only_that_audience(
    redis_client: Redis, meta: Meta, writer: Writer, tmp_path: Path
) -> None:
    await writer.merge(IDS, [Change(AUDIENCE, True, 9), Change(8, True)])
    await writer.opt_out(IDS[:2], OptOut(3, OptOutAction.RESTRICT))

    with spool_of(tmp_path, IDS[1::2]) as spool:
        removed = [r.removed async for r in replace_members(spool, 0, writer, meta, AUDIENCE)]
        again = [r.removed async for r in replace_members(spool, 0, writer, meta, AUDIENCE)]

    after = await read_records(redis_client, meta, IDS)
    stays = (Membership(AUDIENCE, 9), Membership(8))
    assert [record.memberships for record in after] == [(Membership(8),), stays] * 150
    assert [bool(record.opt_outs) for record in after[:3]] == [True, True, False]
    assert (sum(removed), sum(again)) == (150, 0)


async def test_nobody_named_is_everybody_out(
    redis_client: Redis, meta: Meta, writer: Writer, tmp_path: Path
) -> None:
    await writer.merge(IDS, [Change(AUDIENCE, True)])

    with spool_of(tmp_path, []) as spool:
        parts = [r.next_part async for r in replace_members(spool, 0, writer, meta, AUDIENCE)]

    assert parts[-1] == PARTS
    assert await redis_client.keys(keys.BUCKET_PREFIX + b"*") == []


async def test_it_goes_on_from_a_part(
    redis_client: Redis, meta: Meta, writer: Writer, tmp_path: Path
) -> None:
    await writer.merge(IDS, [Change(AUDIENCE, True)])

    with spool_of(tmp_path, []) as spool:
        half = PARTS // 2
        first = [r async for r in replace_members(spool, 0, writer, meta, AUDIENCE, end_part=half)]
        after_first = await read_records(redis_client, meta, IDS)
        second = [
            r async for r in replace_members(spool, first[-1].next_part, writer, meta, AUDIENCE)
        ]

    assert first[-1].next_part == half
    assert {bool(r.memberships) for i, r in zip(IDS, after_first, strict=True) if i[0] < 128} == {
        False
    }
    assert {bool(r.memberships) for i, r in zip(IDS, after_first, strict=True) if i[0] >= 128} == {
        True
    }
    assert second[-1].next_part == PARTS
    assert await redis_client.keys(keys.BUCKET_PREFIX + b"*") == []


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(record=records)
async def test_script_does_what_its_specification_says(
    redis_client: Redis, meta: Meta, writer: Writer, record: Record
) -> None:
    audience_id = record.memberships[0].audience_id if record.memberships else AUDIENCE
    id_ = IDS[1]
    await put(redis_client, meta, id_, pack(record))
    bucket = keys.bucket_of(id_, meta.bucket_bits)

    kept = await writer.retain([(bucket, id_[4:12])], audience_id)
    [untouched] = await read_records(redis_client, meta, [id_])
    dropped = await writer.retain([(bucket, b"")], audience_id)
    [after] = await read_records(redis_client, meta, [id_])

    expected = without(record, audience_id)
    assert (kept, untouched) == (0, record)
    assert (dropped, after) == (len(record.memberships) - len(expected.memberships), expected)


async def test_record_that_cannot_be_read_stops_it(
    redis_client: Redis, meta: Meta, writer: Writer
) -> None:
    await put(redis_client, meta, IDS[0], b"\x10\xff")
    bucket = keys.bucket_of(IDS[0], meta.bucket_bits)

    with pytest.raises(CorruptRecord, match=f"bucket {bucket:x}"):
        await writer.retain([(bucket, b"")], AUDIENCE)


async def test_ids_that_begin_alike_are_refused_and_not_kept_in_memory(
    meta: Meta, writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retain_module, "MAX_NAMES", 100)
    alike = [Id(bytes(4) + n.to_bytes(4) + bytes(8)) for n in range(101)]

    with spool_of(tmp_path, alike) as spool, pytest.raises(Stopped, match="begin alike"):
        _ = [r async for r in replace_members(spool, 0, writer, meta, AUDIENCE)]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=40))
def test_last_word_of_each_id_holds(said: list[tuple[int, bool]]) -> None:
    raw = delta_of([[IDS[n] for n, _ in said]], [leaves for _, leaves in said])
    ids = np.frombuffer(raw, np.uint8).reshape(-1, 16)

    coming, leaving = coming_and_leaving(ids, 8)

    last = dict(said)
    assert {row.tobytes()[:12] for row in coming} == {IDS[n][:12] for n in last if not last[n]}
    assert {row.tobytes()[:12] for row in leaving} == {IDS[n][:12] for n in last if last[n]}
