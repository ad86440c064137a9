"""A file whose job's turn does not come for days: what is kept of it meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.acts.jobs import refuse
from segments.acts.trail import By
from segments.ingest.ids_only import AT_MOST_S
from segments.ingest.run import wait_as_ids
from segments.ledger import job_leases, jobs
from segments.ledger.privacy.audit import COMMAND_LINE
from segments.loader.loader import Loader
from segments.loader.long_waits import look_once
from segments.model.job import NO_FILE, Job, JobState
from segments.model.stop_reason import StopReason
from segments.settings import Settings
from segments.upkeep.originals import Seen, see_to_originals
from tests.engines import Engine
from tests.segments.ingest.deliveries import gz_of, text_of
from tests.segments.upkeep.scrub.scrub_world import ERASED, OTHERS, PEOPLE, KeptFiles, begun

DAY_S = 86_400.0
MISTAKE = b"leaver@acme.example"
FILE = text_of(PEOPLE[:1]) + MISTAKE + b"\n" + text_of(PEOPLE[1:])


@pytest.fixture
async def world(
    settings: Settings, ledger: AsyncEngine, valkey: Engine
) -> AsyncIterator[KeptFiles]:
    async with begun(settings, ledger, valkey) as world:
        yield world


async def looked(world: KeptFiles, *, later_s: float = 0.0) -> int:
    world.ahead_s += later_s
    options = world.settings.loader_options
    loader = Loader(options, world.ledger, world.redis, world.blobs, now_s=world.now_s)
    carry = partial(loader.run_one, carry=wait_as_ids)
    return await look_once(world.tools, carry, asyncio.Event())


async def behind_a_held_job(world: KeptFiles, content: bytes, **how: object) -> tuple[Job, Job]:
    """Deliver a file that waits for its partner's before it, which waits for a person."""
    await world.loaded(text_of(PEOPLE), segment="9")
    await world.deliver(text_of(PEOPLE[:28]), records=28, action="remove", segment="9")
    [held] = await world.load(max_removed_share=0.5)
    assert held.state is JobState.HELD
    return held, await world.deliver(content, **how)  # type: ignore[arg-type]


async def released(world: KeptFiles, held: Job) -> list[Job]:
    held = await world.job(held)
    async with world.ledger.begin() as conn:
        assert await jobs.release(conn, held)
    return await world.load()


def is_kept(world: KeptFiles, mistake: bytes = MISTAKE) -> bool:
    return any(mistake in content for content in world.contents())


@pytest.mark.parametrize("content", [FILE, gz_of(FILE)], ids=["txt", "gz"])
async def test_file_that_waits_for_days_becomes_ids_and_is_carried_in_its_turn(
    world: KeptFiles, content: bytes
) -> None:
    held, waiting = await behind_a_held_job(world, content, records=31)

    early = await looked(world, later_s=AT_MOST_S - 60)
    was_kept = is_kept(world)
    late, again = await looked(world, later_s=120), await looked(world)
    as_it_waits = await world.job(waiting)
    _, done = await released(world, held)

    assert (early, was_kept, late, again) == (0, True, 1, 0)
    assert not is_kept(world)
    assert (as_it_waits.state, as_it_waits.report.is_ids) == (JobState.QUEUED, True)
    assert (done.state, done.report.rows, done.report.bad) == (JobState.DONE, 31, 1)
    assert (done.report.added, done.report.bad_lines[0].number) == (30, 2)
    lost = await world.dump()
    assert await world.rebuilt() == lost


async def test_file_becomes_ids_though_the_store_is_away(world: KeptFiles, valkey: Engine) -> None:
    waiting = await world.deliver(FILE, records=31)
    valkey.stop()

    late = await looked(world, later_s=AT_MOST_S)

    assert (late, is_kept(world)) == (1, False)
    assert (await world.job(waiting)).state is JobState.QUEUED


async def test_file_that_waits_and_is_another_than_was_said_fails_and_goes(
    world: KeptFiles,
) -> None:
    held, waiting = await behind_a_held_job(world, MISTAKE + b"\n", records=1)

    await looked(world, later_s=AT_MOST_S)

    now = await world.job(waiting)
    assert (now.state, now.stop, now.blob) == (JobState.FAILED, StopReason.NO_VALID_RECORD, NO_FILE)
    assert not is_kept(world)
    assert (await world.job(held)).state is JobState.HELD


async def test_erased_person_leaves_the_ids_of_a_file_that_waits(world: KeptFiles) -> None:
    held, waiting = await behind_a_held_job(world, FILE, records=31)
    await looked(world, later_s=AT_MOST_S)
    await world.say_no()

    await world.scrub()

    assert (await world.job(waiting)).state is JobState.QUEUED
    assert world.found(ERASED) == set()
    _, done = await released(world, held)
    assert (done.state, done.report.added, done.report.rows) == (JobState.DONE, len(OTHERS), 31)


async def test_same_bytes_again_are_the_job_that_waits_as_ids(world: KeptFiles) -> None:
    _, waiting = await behind_a_held_job(world, FILE, records=31)
    await looked(world, later_s=AT_MOST_S)

    again = await world.deliver(FILE, records=31)

    assert again.id == waiting.id
    assert not is_kept(world)


async def test_loader_that_dies_while_it_reads_leaves_the_job_for_the_next_look(
    world: KeptFiles,
) -> None:
    held, waiting = await behind_a_held_job(world, FILE, records=31)
    world.ahead_s += AT_MOST_S
    async with world.ledger.begin() as conn:
        assert await job_leases.claim_waiting(conn, waiting.id, world.now_s())

    at_once = await looked(world)
    later = await looked(world, later_s=job_leases.LEASE_S + 1)

    assert (at_once, later, is_kept(world)) == (0, 1, False)
    _, done = await released(world, held)
    assert (done.state, done.report.added) == (JobState.DONE, 30)


async def test_job_that_begins_late_becomes_ids_before_it_writes(world: KeptFiles) -> None:
    await world.loaded(text_of(PEOPLE), segment="9")
    await see_to_originals(world.tools, DAY_S)
    await world.deliver(
        MISTAKE + b"\n" + text_of(PEOPLE[:28]), records=29, action="remove", segment="9"
    )
    world.ahead_s += AT_MOST_S - 60

    [held] = await world.load(max_removed_share=0.5)

    assert (held.state, held.report.is_ids, is_kept(world)) == (JobState.HELD, True, False)


async def test_file_of_a_held_job_goes_when_an_operator_refuses_it(world: KeptFiles) -> None:
    await world.loaded(text_of(PEOPLE), segment="9")
    await see_to_originals(world.tools, DAY_S)
    await world.deliver(
        MISTAKE + b"\n" + text_of(PEOPLE[:28]), records=29, action="remove", segment="9"
    )
    [held] = await world.load(max_removed_share=0.5)

    async with world.ledger.begin() as conn:
        await refuse(conn, By(COMMAND_LINE, world.now_s()), held)
    await world.scrub()

    assert not is_kept(world)
    assert (await world.job(held)).blob == NO_FILE
    assert await see_to_originals(world.tools, DAY_S) == Seen()
