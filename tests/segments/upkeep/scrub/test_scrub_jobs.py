"""What a scrub makes of a file goes by how its job stands, and the job goes on with it."""

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from segments.files.blobs import Blobs, Stored
from segments.ledger import job_leases, jobs
from segments.ledger.database.engine import open_ledger
from segments.model.job import JobState
from segments.model.stop_reason import StopReason
from segments.settings import Settings
from segments.upkeep.scrub.scrubber import Scrubber
from tests.engines import Engine
from tests.segments.ingest.deliveries import (
    email_hashes,
    gz_of,
    text_of,
    zip_of,
)
from tests.segments.upkeep.scrub.scrub_world import ERASED, OTHERS, PEOPLE, KeptFiles, begun


@pytest.fixture
async def world(settings: Settings, valkey: Engine) -> AsyncIterator[KeptFiles]:
    """On SQLite; what differs on PostgreSQL are the queries, which `test_scrubber` asks both."""
    async with open_ledger(settings.ledger_dsn) as ledger, begun(settings, ledger, valkey) as world:
        yield world


async def test_job_that_waits_reads_what_is_left_of_its_file(world: KeptFiles) -> None:
    """
    The digest and the count that were announced are those of the file as it came.
    """
    waiting = await world.deliver(text_of(PEOPLE))
    await world.say_no()

    await world.scrub()
    [job] = await world.load()

    assert job.id == waiting.id
    assert (job.state, job.report.added, job.report.refused) == (JobState.DONE, len(OTHERS), 0)
    assert world.found(PEOPLE) == set(OTHERS)


async def test_job_that_waits_with_none_but_erased_ids_is_done(world: KeptFiles) -> None:
    await world.deliver(text_of(ERASED), records=len(ERASED))
    await world.say_no()

    await world.scrub()
    [job] = await world.load()

    assert (job.state, job.report.valid) == (JobState.DONE, 0)


async def test_first_line_still_says_of_which_type_a_file_is_when_it_is_gone(
    world: KeptFiles,
) -> None:
    """
    Of an md5 file, a line of another type is bad; without its first line it would decide.
    """
    md5, sha2 = email_hashes(3, "md5"), email_hashes(1)
    content = text_of([md5[0], *sha2, *md5[1:]])
    await world.deliver(content, records=4)
    await world.say_no(md5[:1])

    await world.scrub()
    [job] = await world.load()

    assert (job.report.hash_type, job.report.added, job.report.bad) == ("md5", 2, 1)


@pytest.mark.parametrize(
    ("content", "described", "expected"),
    [
        pytest.param(text_of(PEOPLE), b"another", StopReason.DIGEST_MISMATCH, id="not described"),
        pytest.param(
            gz_of(text_of(PEOPLE))[:-20],
            gz_of(text_of(PEOPLE))[:-20],
            StopReason.UNREADABLE_FILE,
            id="cut short",
        ),
    ],
)
async def test_job_that_waits_and_would_fail_does_so_and_its_file_is_deleted(
    world: KeptFiles, content: bytes, described: bytes, expected: StopReason
) -> None:
    await world.deliver(content, digest_of=described)
    await world.say_no()

    done = await world.scrub()
    [job] = await world.load()

    assert done.deleted == 1
    assert world.contents() == []
    assert (job.state, job.stop) == (JobState.FAILED, expected)


async def test_held_job_goes_on_with_what_is_left(world: KeptFiles) -> None:
    await world.loaded(text_of(PEOPLE))
    await world.deliver(text_of(PEOPLE[:28]), records=28, action="remove")
    [held] = await world.load(max_removed_share=0.5)
    assert held.state is JobState.HELD
    await world.say_no()

    await world.scrub()
    async with world.ledger.begin() as conn:
        assert await jobs.release(conn, held)
    [job] = await world.load(max_removed_share=0.5)

    assert (job.state, job.report.removed) == (JobState.DONE, 28 - len(ERASED))
    assert world.found(PEOPLE) == set(OTHERS)


async def test_file_of_a_job_that_failed_before_it_wrote_is_deleted_whatever_it_is(
    world: KeptFiles,
) -> None:
    await world.loaded(zip_of({"a.txt": text_of(PEOPLE), "b.txt": text_of(PEOPLE)}))
    await world.say_no()

    done = await world.scrub()
    again = await world.scrub()

    assert (done.deleted, again.deleted) == (1, 0)
    assert world.contents() == []
    assert await world.rebuilt() == await world.dump()


async def test_file_that_a_loader_reads_is_left_to_it_and_seen_to_behind_it(
    world: KeptFiles,
) -> None:
    await world.deliver(text_of(PEOPLE))
    await world.say_no()
    async with world.ledger.begin() as conn:
        running = await job_leases.claim(conn, world.now_s())
    assert running is not None

    busy = await world.scrub()
    assert (busy.at_work, busy.looked_at) == (1, 0)
    async with world.ledger.begin() as conn:
        await job_leases.save(conn, replace(running, state=JobState.QUEUED), world.now_s())
    await world.load()
    await world.scrub()

    assert world.found(PEOPLE) == set(OTHERS)


async def test_file_that_is_claimed_while_it_is_rewritten_stays(world: KeptFiles) -> None:
    await world.deliver(text_of(PEOPLE))
    await world.say_no()

    class Claiming(Blobs):
        async def put(self, name: str, chunks: object) -> Stored:
            async with world.ledger.begin() as conn:
                assert await job_leases.claim(conn, world.now_s())
            return await super().put(name, chunks)  # type: ignore[arg-type]

    blobs = Claiming.in_directory(world.folder)
    done = await Scrubber(world.ledger, blobs, world.settings.spool_dir, world.now_s).scrub(
        world.now_s()
    )

    assert (done.at_work, done.rewritten) == (1, 0)
    assert [plain_text.split() for plain_text in world.contents()] == [[h.encode() for h in PEOPLE]]
