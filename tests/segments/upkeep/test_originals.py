"""Which delivered files are still kept as delivered, and for how long."""

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ingest.deletion import forget_in_jobs, tidy
from segments.ingest.ids_only import AT_MOST_S
from segments.ledger import jobs
from segments.model.job import NO_FILE, Checkpoint, Job, JobState, Planned, failed
from segments.model.order import SegmentAction
from segments.model.stop_reason import Stopped, StopReason
from segments.settings import Settings
from segments.upkeep.originals import Seen, see_to_originals
from tests.engines import Engine
from tests.segments.ingest.deliveries import gz_of, text_of
from tests.segments.upkeep.scrub.scrub_world import ERASED, OTHERS, PEOPLE, KeptFiles, begun

DAY_S = 86_400.0
MISTAKE = b"leaver@acme.example\n"
ANOTHER = Planned("2", SegmentAction.ADD, 99)
FILE = text_of(PEOPLE[:1]) + MISTAKE + text_of(PEOPLE[1:])


@pytest.fixture
async def world(
    settings: Settings, ledger: AsyncEngine, valkey: Engine
) -> AsyncIterator[KeptFiles]:
    async with begun(settings, ledger, valkey) as world:
        yield world


async def seen(world: KeptFiles, *, later_s: float = 0.0) -> Seen:
    world.ahead_s += later_s
    return await see_to_originals(world.tools, DAY_S)


async def failed_with(world: KeptFiles, job: Job, reason: StopReason) -> Job:
    """Have a job that nobody works on fail."""
    ended = failed(job, Stopped(reason), world.now_s())
    async with world.ledger.begin() as conn:
        await jobs.rewrite(conn, ended)
    return ended


@pytest.mark.parametrize("content", [FILE, gz_of(FILE)], ids=["txt", "gz"])
async def test_file_of_an_older_version_becomes_ids_once(world: KeptFiles, content: bytes) -> None:
    job = await world.loaded(content, records=31)
    lost = await world.dump()
    assert any(MISTAKE in kept for kept in world.contents())

    first, second = await seen(world), await seen(world)

    assert (first, second) == (Seen(became_ids=1), Seen())
    [kept] = world.contents()
    assert MISTAKE.strip() not in kept
    assert world.found(PEOPLE) == set(PEOPLE)
    now = await world.job(job)
    assert (now.report.is_ids, now.report.rows, now.file_name) == (True, 31, "a.txt")
    assert await world.rebuilt() == lost


async def test_file_that_became_ids_is_scrubbed(world: KeptFiles) -> None:
    await world.loaded(FILE, records=31)
    await world.say_no()
    lost = await world.dump()

    await seen(world)
    done = await world.scrub()

    assert (done.rewritten, done.lines) == (1, len(ERASED))
    assert world.found(PEOPLE) == set(OTHERS)
    assert await world.rebuilt() == lost


async def test_file_that_was_scrubbed_becomes_ids(world: KeptFiles) -> None:
    await world.loaded(FILE, records=31)
    await world.say_no()
    lost = await world.dump()
    await world.scrub()

    assert await seen(world) == Seen(became_ids=1)

    assert world.found(PEOPLE) == set(OTHERS)
    assert await world.rebuilt() == lost


async def test_job_that_broke_off_is_rebuilt_as_far_as_it_came(world: KeptFiles) -> None:
    done = await world.loaded(FILE, records=31)
    broken = failed(done, Stopped(StopReason.INTERNAL), world.now_s())
    async with world.ledger.begin() as conn:
        await jobs.rewrite(conn, broken)
        await conn.exec_driver_sql(
            'update jobs set checkpoint = \'{"next_part": 2000, "deaths": 0}\''
        )
    half = await world.rebuilt()
    assert (await world.job(done)).checkpoint == Checkpoint(2000)

    assert await seen(world) == Seen(became_ids=1)

    assert await world.rebuilt() == half
    assert MISTAKE.strip() not in b"".join(world.contents())


async def test_file_that_is_refused_for_its_content_goes_with_the_answer(
    world: KeptFiles,
) -> None:
    await world.deliver(MISTAKE, records=1)
    [job] = await world.load()
    async with world.ledger.begin() as conn:
        blobs = await tidy(conn, job, {}, now_s=world.now_s(), refused_file_s=DAY_S)

    assert (job.stop, blobs) == (StopReason.NO_VALID_RECORD, [job.blob])
    assert (await world.job(job)).blob == NO_FILE


async def test_file_that_is_refused_for_what_was_said_of_it_stays_a_day(world: KeptFiles) -> None:
    await world.deliver(FILE, digest_of=b"another")
    [job] = await world.load()
    assert job.stop is StopReason.DIGEST_MISMATCH

    early = await seen(world, later_s=DAY_S - 60)
    late = await seen(world, later_s=120)

    assert (early, late) == (Seen(), Seen(deleted=1))
    assert world.contents() == []
    assert (await world.job(job)).blob == NO_FILE


@pytest.mark.parametrize(
    ("reason", "kept_s"),
    [
        pytest.param(StopReason.INTERNAL, AT_MOST_S, id="a fault of ours"),
        pytest.param(StopReason.STORE_CORRUPT, AT_MOST_S, id="the store's"),
        pytest.param(StopReason.NOT_RELEASED, 0.0, id="refused by the operator"),
    ],
)
async def test_file_of_a_job_that_failed_stays_seven_days_at_most(
    world: KeptFiles, reason: StopReason, kept_s: float
) -> None:
    await failed_with(world, await world.deliver(FILE, records=31), reason)

    early = await seen(world, later_s=max(0.0, kept_s - 60))
    late = await seen(world, later_s=120)

    assert (early.deleted, late.deleted) == ((0, 1) if kept_s else (1, 0))
    assert world.contents() == []


async def test_held_job_goes_on_with_ids_after_seven_days(world: KeptFiles) -> None:
    await world.loaded(text_of(PEOPLE))
    await seen(world)
    await world.deliver(MISTAKE + text_of(PEOPLE[:28]), records=29, action="remove")
    [held] = await world.load(max_removed_share=0.5)
    assert held.state is JobState.HELD

    early = await seen(world, later_s=AT_MOST_S - 60)
    late = await seen(world, later_s=120)
    async with world.ledger.begin() as conn:
        assert await jobs.release(conn, held)
    [job] = await world.load(max_removed_share=0.5)

    assert (early, late) == (Seen(), Seen(became_ids=1))
    assert (job.state, job.report.removed) == (JobState.DONE, 28)
    assert MISTAKE.strip() not in b"".join(world.contents())


async def test_file_that_cannot_be_read_is_told_and_keeps_no_other(
    world: KeptFiles, caplog: pytest.LogCaptureFixture
) -> None:
    gone = await world.loaded(FILE, records=31)
    await world.loaded(FILE, records=31, segment="2")
    (world.folder / gone.blob).unlink()

    assert await seen(world) == Seen(became_ids=1, unreadable=1)
    assert caplog.messages == [f"the file of job {gone.id} can't be read: file_not_found"]


async def test_audience_that_is_deleted_while_a_file_is_read_stays_forgotten(
    world: KeptFiles,
) -> None:
    job = await world.loaded(FILE, records=31)
    was = replace(job, report=replace(job.report, segments=(*job.report.segments, ANOTHER)))
    async with world.ledger.begin() as conn:
        await jobs.rewrite(conn, was)
        await forget_in_jobs(conn, ANOTHER.audience_id or 0, [job.id])

        now = replace(was, blob="another", report=replace(was.report, is_ids=True))
        is_done = await jobs.replace_original(conn, was, now)

    after = await world.job(job)
    assert (is_done, after.blob, after.report.is_ids) == (True, "another", True)
    assert after.report.segments == job.report.segments
