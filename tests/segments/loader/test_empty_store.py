"""A store that came back empty while its ledger knows what was in it."""

import asyncio
import logging
import random
import time
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from sqlalchemy import update

from rtb.server.metrics.admin_port import Board
from segments.ledger import audiences, lost_jobs
from segments.ledger.expected import ExpectedMemberships
from segments.ledger.tables import jobs
from segments.loader.fill import Fill
from segments.loader.refill import refill_when_empty
from segments.model.audience import AudienceState
from segments.model.job import Job
from segments.store import keys, rebuild_claim
from segments.store.reader import read_meta
from tests.edge.small_store import eventually, started
from tests.segments.ingest.deliveries import email_hashes, text_of
from tests.segments.loader.test_loader import RunningLoader, _not, members, world

__all__ = ["world"]

HASHES = email_hashes(300)


async def loaded(world: RunningLoader) -> None:
    await world.loader.catch_up()
    await world.loader.carry(await world.delivered(text_of(HASHES)), world.stopping, _not)
    assert await members(world, HASHES) == len(HASHES)


def is_said(world: RunningLoader) -> bool:
    metrics = generate_latest(world.loader._metrics.registry).decode()
    return "segments_store_came_back_empty 1.0" in metrics


async def test_new_store_of_a_new_ledger_lacks_nothing(world: RunningLoader) -> None:
    await world.loader.catch_up()

    assert not (await read_meta(world.redis)).is_unfilled
    assert not is_said(world)


async def test_store_that_came_back_empty_is_said_to_be_until_it_is_rebuilt(
    world: RunningLoader, caplog: pytest.LogCaptureFixture
) -> None:
    await loaded(world)
    well = is_said(world)
    async with started(world.engine.url) as listener:
        board = Board([listener.counters])
        await eventually(lambda: listener.is_up)
        assert not listener.worker.bids.lookup.is_unfilled

        await world.redis.flushall()
        await world.loader.catch_up()
        # Opt-outs are in force, and what is loaded now is shown.
        await eventually(lambda: listener.is_up and listener.worker.bids.lookup.is_unfilled)
        await eventually(lambda: "came back empty" in "".join(board.health().passing))
        empty = board.health()

        stopping = asyncio.Event()
        refilling = asyncio.create_task(
            refill_when_empty(world.loader._tools, 10_000, stopping, settle_s=0)
        )
        await eventually(lambda: listener.is_up and not listener.worker.bids.lookup.is_unfilled)
        stopping.set()
        await refilling
    await world.loader.catch_up()

    assert empty.is_ready
    assert not empty.is_enriching
    assert not well
    assert any(
        "came back empty, whole or in part: opt-outs are in force" in line
        for line in caplog.messages
    )
    assert not is_said(world)
    assert await members(world, HASHES) == len(HASHES)


async def test_memberships_that_are_expected_and_held_are_told(world: RunningLoader) -> None:
    fill = Fill(world.loader._tools, world.loader._metrics, random.Random(7))
    await loaded(world)
    await fill.look()
    well, ids = told_memberships(world), told(world, "segments_ids_held")
    await world.redis.flushall()
    await world.loader.catch_up()
    await fill.look()

    assert well == (len(HASHES), len(HASHES))
    assert told_memberships(world) == (len(HASHES), 0)
    assert (ids, told(world, "segments_ids_held")) == (len(HASHES), 0)
    assert told(world, "segments_store_memory_bytes") > 0


async def test_memberships_of_a_deleted_audience_are_not_expected(world: RunningLoader) -> None:
    await world.loader.catch_up()
    for hashes, segment in ((HASHES, "1"), (HASHES[:200], "2")):
        await world.loader.carry(
            await world.delivered(text_of(hashes), segment=segment), world.stopping, _not
        )
    expected = ExpectedMemberships(world.loader._tools.ledger)
    before = await expected.look(time.time())
    async with world.loader._tools.ledger.begin() as conn:
        for audience in await audiences.audiences(conn):
            if audience.segment_id == "2":
                await audiences.set_state(conn, audience, AudienceState.DELETED, now_s=0)

    assert before == 500
    assert await expected.look(time.time()) == 300


async def test_job_that_is_carried_again_adds_to_what_is_expected_once(
    world: RunningLoader,
) -> None:
    """A store that fell back: the sweep of each day drops the marks, so that may be hours later."""
    ledger = world.loader._tools.ledger
    await world.loader.catch_up()
    old, new = [
        await world.loader.carry(
            await world.delivered(text_of(hashes), segment=segment), world.stopping, _not
        )
        for hashes, segment in ((HASHES, "1"), (HASHES[:200], "2"))
    ]
    await finished(world, old, time.time() - 7200)
    expected = ExpectedMemberships(ledger)
    before = [await expected.look(time.time()), await expected.look(time.time())]
    async with ledger.begin() as conn:
        await lost_jobs.begin_again(conn, old.partner_id, old.id)
    await world.redis.flushall()
    await world.loader.catch_up()
    await world.loader.carry(new, world.stopping, _not)

    assert before == [500, 500]
    assert await expected.look(time.time()) == 500


async def test_job_that_ended_after_the_clock_was_set_back_is_expected(
    world: RunningLoader,
) -> None:
    expected = ExpectedMemberships(world.loader._tools.ledger)
    await world.loader.catch_up()
    job = await world.loader.carry(await world.delivered(text_of(HASHES)), world.stopping, _not)
    ahead_s = time.time() + 86_400
    await finished(world, job, ahead_s)
    before = await expected.look(ahead_s)
    await world.loader.carry(
        await world.delivered(text_of(HASHES[:200]), segment="2"), world.stopping, _not
    )

    assert before == 300
    assert await expected.look(time.time()) == 500


async def finished(world: RunningLoader, job: Job, at_s: float) -> None:
    async with world.loader._tools.ledger.begin() as conn:
        await conn.execute(update(jobs).where(jobs.c.id == job.id).values(finished_at_s=at_s))


def told_memberships(world: RunningLoader) -> tuple[float, ...]:
    names = ("segments_memberships_expected", "segments_memberships_held")
    return tuple(told(world, name) for name in names)


def told(world: RunningLoader, name: str) -> float:
    return world.loader._metrics.registry.get_sample_value(name) or 0


async def test_of_several_loaders_one_makes_it_anew(
    world: RunningLoader, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await loaded(world)
    await world.redis.flushall()
    await world.loader.catch_up()

    stopping = asyncio.Event()
    refilling = [
        asyncio.create_task(refill_when_empty(world.loader._tools, 10_000, stopping, settle_s=0.1))
        for _ in range(3)
    ]

    async def is_whole() -> bool:
        return await members(world, HASHES) == len(HASHES)

    await eventually(lambda: any("the store is made anew:" in line for line in caplog.messages))
    await eventually(is_whole)
    stopping.set()
    await asyncio.gather(*refilling)

    assert sum("is made anew (SEGMENTS" in line for line in caplog.messages) == 1


async def test_loader_that_lost_the_lease_lets_go_and_leaves_it_to_its_owner(
    world: RunningLoader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As one that was stopped for longer than its lease: two would wipe each other's writes."""
    monkeypatch.setattr("segments.loader.refill._RENEW_EVERY_S", 0.05)
    await loaded(world)
    await world.redis.flushall()
    await world.loader.catch_up()
    stopping = asyncio.Event()
    refilling = asyncio.create_task(
        refill_when_empty(world.loader._tools, 10_000, stopping, settle_s=60)
    )

    async def has_begun() -> bool:
        return await world.redis.get(keys.REBUILD) is not None

    await eventually(has_begun)
    await world.redis.set(keys.REFILL, "another")
    await eventually(lambda: any("another loader does it" in line for line in caplog.messages))
    stopping.set()
    await refilling

    assert await world.redis.get(keys.REFILL) == b"another"


async def test_one_that_was_broken_off_is_begun_anew_and_a_persons_is_left_alone(
    world: RunningLoader,
) -> None:
    await loaded(world)
    stopping = asyncio.Event()
    await rebuild_claim.take(world.redis)
    refilling = asyncio.create_task(
        refill_when_empty(world.loader._tools, 10_000, stopping, settle_s=0)
    )
    begun_by_a_person = await world.redis.get(keys.REBUILD)
    await asyncio.sleep(0)
    await rebuild_claim.take(world.redis, is_automatic=True)

    async def is_open() -> bool:
        return await world.redis.get(keys.REBUILD) is None

    await eventually(is_open)
    stopping.set()
    await refilling

    assert begun_by_a_person
    assert await members(world, HASHES) == len(HASHES)


async def test_file_that_is_gone_does_not_keep_the_others_out(
    world: RunningLoader, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await loaded(world)
    others = email_hashes(50, start=1000)
    lost = await world.loader.carry(
        await world.delivered(text_of(others), segment="2"), world.stopping, _not
    )
    await world.blobs.delete((await world.job(lost)).blob)
    await world.redis.flushall()
    await world.loader.catch_up()

    stopping = asyncio.Event()
    refilling = asyncio.create_task(
        refill_when_empty(world.loader._tools, 10_000, stopping, settle_s=0)
    )
    await eventually(lambda: any("can't be read: 2" in line for line in caplog.messages))
    stopping.set()
    await refilling

    assert await members(world, HASHES) == len(HASHES)
    assert await members(world, others) == 0
