"""What a worker remembers of the bids that it answered, through a real socket and a real store."""

import time
from collections.abc import AsyncIterator, Iterable

import pytest
from redis.asyncio import Redis

from rtb.server.metrics import layout
from rtb.server.metrics.admin_port import Board
from rtb.server.metrics.layout import SeenResult, Where
from rtb.server.metrics.shared_counters import SharedCounters, create
from rtb.server.seen_recorder import SeenRecorder
from segments.model.identity import Id, id_of_email_hash
from segments.model.record import day_of
from segments.store import keys
from segments.store.reader import read_meta
from segments.store.seen_filter import IDS_PER_WRITE, probes
from segments.store.servers.connection import connect
from tests.edge.client import connected
from tests.edge.small_store import (
    MEMBER,
    OPTED_OUT,
    STRANGER,
    bid_request,
    eventually,
    furnish,
    serving,
)
from tests.engines import Engine

MEMBER_ID, STRANGER_ID = id_of_email_hash(MEMBER), id_of_email_hash(STRANGER)
SEEN_KEYS = b"seg:1:seen:*"


def id_of(number: int) -> Id:
    return Id(number.to_bytes(4) * 4)


def count(counters: SharedCounters, result: SeenResult) -> int:
    return counters.cells[layout.SEEN + tuple(SeenResult).index(result)]


async def bits(redis: Redis) -> set[int]:
    """Return the bits of all days' filters."""
    found = set()
    async for key in redis.scan_iter(match=SEEN_KEYS):
        raw = await redis.get(key)
        assert isinstance(raw, bytes)
        whole = int.from_bytes(raw)
        while whole:
            low = (whole & -whole).bit_length()
            found.add(len(raw) * 8 - low)
            whole &= whole - 1
    return found


def bits_of(ids: Iterable[Id]) -> set[int]:
    return {bit for id_ in ids for bit in probes(id_)}


@pytest.fixture
async def redis(engine: Engine) -> AsyncIterator[Redis]:
    """A client that does not wait long for a store that is down."""
    async with connect(engine.url, socket_timeout=0.2, retry=None) as client:
        yield client


@pytest.fixture
def counters() -> SharedCounters:
    return SharedCounters(create(1), 0)


async def test_ids_of_answered_bids_are_in_the_filter_of_the_day(
    engine: Engine, redis_client: Redis
) -> None:
    days = {day_of(time.time())}

    async with (
        serving(engine.url, remember_seen=True) as service,
        connected(service.port) as client,
    ):
        outcomes = [
            (await client.post(bid_request(who))).outcome for who in (MEMBER, STRANGER, MEMBER)
        ]
        await eventually(lambda: count(service.counters, SeenResult.REMEMBERED) >= 2)

    days.add(day_of(time.time()))
    assert outcomes == ["enriched", "no_match", "enriched"]
    assert await bits(redis_client) == bits_of([MEMBER_ID, STRANGER_ID])
    assert {key async for key in redis_client.scan_iter(match=SEEN_KEYS)} <= {
        keys.seen_key(day) for day in days
    }


async def test_nothing_is_remembered_where_nobody_asked_for_it(
    engine: Engine, redis_client: Redis
) -> None:
    async with serving(engine.url) as service, connected(service.port) as client:
        answer = await client.post(bid_request())

        assert answer.outcome == "enriched"
        assert service.worker.bids.seen is None
    assert [key async for key in redis_client.scan_iter(match=SEEN_KEYS)] == []


async def test_who_said_no_or_could_not_be_asked_about_is_not_remembered(
    engine: Engine, redis_client: Redis
) -> None:
    """Each of these is an id that nobody else has; the member's shows that all was flushed."""
    corrupt, child, late = ("a" * 64, "b" * 64, "c" * 64)

    async with (
        serving(engine.url, remember_seen=True) as service,
        connected(service.port) as client,
    ):
        bucket_bits = (await read_meta(redis_client)).bucket_bits
        id_ = id_of_email_hash(corrupt)
        key = keys.bucket_key(keys.bucket_of(id_, bucket_bits)).decode()
        await redis_client.hset(key, mapping={keys.field_of(id_): b"\xff"})
        outcomes = [
            (await client.post(body)).outcome
            for body in (
                bid_request(OPTED_OUT),
                bid_request(child, regs={"coppa": 1}),
                bid_request(corrupt),
            )
        ]
        engine.freeze()
        outcomes.append((await client.post(bid_request(late, tmax=50))).outcome)
        engine.thaw()
        await eventually(lambda: service.is_up)
        await client.post(bid_request(MEMBER))
        await eventually(lambda: count(service.counters, SeenResult.REMEMBERED) >= 1)

    assert outcomes == ["opted_out", "no_consent", "store_down", "out_of_time"]
    assert await bits(redis_client) == bits_of([MEMBER_ID])


async def test_bug_in_the_answer_leaves_nobody_remembered(engine: Engine) -> None:
    """Whether they had opted out is what the answer would have said."""

    def broken(*_: object) -> None:
        raise AssertionError

    async with (
        serving(engine.url, remember_seen=True) as service,
        connected(service.port) as client,
    ):
        service.worker.bids.answer = broken  # type: ignore[assignment]
        answer = await client.post(bid_request())

        assert answer.outcome == "no_match"
        assert service.worker.bids.seen is not None
        assert not service.worker.bids.seen._pending


async def test_more_ids_than_a_worker_keeps_are_dropped_and_counted(
    redis: Redis, counters: SharedCounters
) -> None:
    await furnish(redis)
    seen = SeenRecorder(redis, counters, max_pending=3)

    for number in range(4):
        seen.add((id_of(number),))
    seen.add((id_of(0), id_of(4)))
    await seen.flush()
    seen.add((id_of(5),))
    await seen.flush()

    assert await bits(redis) == bits_of(map(id_of, [0, 1, 2, 5]))
    assert count(counters, SeenResult.REMEMBERED) == 4
    assert count(counters, SeenResult.DROPPED) == 3


async def test_flush_of_many_goes_in_small_writes_and_leaves_nothing_behind(
    redis: Redis, counters: SharedCounters
) -> None:
    await furnish(redis)
    seen = SeenRecorder(redis, counters)
    ids = [id_of(number) for number in range(2 * IDS_PER_WRITE + 1)]
    await redis.config_resetstat()

    seen.add(tuple(ids))
    await seen.flush()
    await seen.flush()

    assert await bits(redis) == bits_of(ids)
    assert count(counters, SeenResult.REMEMBERED) == len(ids)
    calls = (await redis.info("commandstats"))["cmdstat_evalsha"]
    assert calls["calls"] - calls["failed_calls"] == 3


async def test_flush_into_a_store_that_is_down_hung_or_not_ours_drops_and_goes_on(
    engine: Engine, redis: Redis, counters: SharedCounters
) -> None:
    seen = SeenRecorder(redis, counters)

    seen.add((id_of(1),))
    await seen.flush()  # no meta
    assert [key async for key in redis.scan_iter()] == []
    await furnish(redis)
    seen.add((id_of(2), id_of(3)))
    engine.freeze()
    await seen.flush()
    engine.thaw()
    engine.stop()
    seen.add((id_of(4),))
    await seen.flush()
    engine.start()
    seen.add((id_of(5),))
    await seen.flush()

    assert count(counters, SeenResult.DROPPED) == 4
    assert count(counters, SeenResult.REMEMBERED) == 1
    assert await bits(redis) == bits_of([id_of(5)])


async def test_bids_go_on_while_what_was_seen_can_not_be_written(engine: Engine) -> None:
    async with (
        serving(engine.url, remember_seen=True) as service,
        connected(service.port) as client,
    ):
        # Not what a store of ours holds, so that each write is refused.
        async with connect(engine.url) as redis:
            for day in (0, 1):
                await redis.hset(keys.seen_key(day_of(time.time()) + day).decode(), "a", "b")
        answers = [(await client.post(bid_request())).outcome for _ in range(3)]
        await eventually(lambda: count(service.counters, SeenResult.DROPPED) >= 1)
        answers.append((await client.post(bid_request())).outcome)

        assert answers == ["enriched"] * 4
        assert service.counters.cells[layout.BUGS : layout.REFUSED].tolist() == [0] * len(Where)


def test_what_became_of_them_is_in_the_metrics(counters: SharedCounters) -> None:
    counters.count_seen(SeenResult.REMEMBERED, 5)
    counters.count_seen(SeenResult.DROPPED, 2)

    [family] = [f for f in Board([counters]).collect() if f.name == "rtb_seen_ids"]

    assert {s.labels["result"]: s.value for s in family.samples if s.name.endswith("_total")} == {
        "remembered": 5,
        "dropped": 2,
    }
