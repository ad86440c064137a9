"""Erased ids are gone from every file that is kept, and a rebuilt store is still the same."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from threading import Thread

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.blobs import DELIVERIES, UPLOADS, Blobs, Stored
from segments.ledger import accounts
from segments.ledger.database.engine import open_ledger
from segments.loader.loader import Loader
from segments.model.job import NO_FILE
from segments.model.record import OptOutAction
from segments.settings import Settings
from segments.store.reader import read_meta
from segments.store.servers.connection import connect
from segments.upkeep.rebuild import Progress, Show, rebuild
from segments.upkeep.scrub.scrubber import ABANDONED_AFTER_S, STRAY_AFTER_S, Scrub, Scrubber
from tests.engines import Engine
from tests.segments.ingest.deliveries import (
    TYPE_TO_ALGORITHM,
    email_hashes,
    gz_of,
    text_of,
    zip_of,
)
from tests.segments.upkeep.histories import History
from tests.segments.upkeep.scrub.scrub_world import (
    ERASED,
    OTHERS,
    PEOPLE,
    KeptFiles,
    begun,
    lines_of,
)


@pytest.fixture
async def world(settings: Settings, valkey: Engine) -> AsyncIterator[KeptFiles]:
    """On SQLite; what differs on PostgreSQL are the queries: see `test_on_both_ledgers`."""
    async with open_ledger(settings.ledger_dsn) as ledger, begun(settings, ledger, valkey) as world:
        yield world


def quoted(hashes: Sequence[str]) -> bytes:
    return b'"email"\r\n' + "".join(f'"{h.upper()}"\r\n' for h in hashes).encode()


FORMS = [
    pytest.param(text_of, id="txt"),
    pytest.param(quoted, id="csv, quoted, upper case, with a title"),
    pytest.param(lambda hashes: gz_of(text_of(hashes)), id="gz"),
    pytest.param(lambda hashes: gz_of(quoted(hashes)), id="gz of csv"),
    pytest.param(lambda hashes: zip_of({"a.txt": text_of(hashes)}), id="zip"),
    pytest.param(
        lambda hashes: zip_of({"__MACOSX/._a": text_of(hashes), "a.txt": text_of(hashes)}),
        id="zip with more in it",
    ),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("hash_type", TYPE_TO_ALGORITHM)
async def test_erased_ids_are_found_in_no_file_and_all_others_are(
    world: KeptFiles, form: Callable[[Sequence[str]], bytes], hash_type: str
) -> None:
    people = email_hashes(30, hash_type)
    await world.loaded(form(people))
    await world.say_no(people[:5])
    lost = await world.dump()
    assert world.found(people) == set(people)

    done = await world.scrub()

    assert world.found(people) == set(people[5:])
    assert (done.rewritten, done.unreadable) == (1, 0)
    assert done.lines == 5
    assert len(world.contents()) == 1
    assert await world.rebuilt() == lost


async def test_scrubbed_file_is_left_alone_until_another_erasure(world: KeptFiles) -> None:
    job = await world.loaded(text_of(PEOPLE))
    await world.say_no()

    first = await world.scrub()
    second = await world.scrub()
    await world.say_no(OTHERS[:2])
    third = await world.scrub()

    assert [done.looked_at for done in (first, second, third)] == [1, 0, 1]
    assert third.lines == 2
    assert world.found(PEOPLE) == set(OTHERS[2:])
    assert (await world.job(job)).blob != job.blob


async def test_restriction_takes_nothing_out(world: KeptFiles) -> None:
    await world.loaded(text_of(PEOPLE))
    await world.say_no(action=OptOutAction.RESTRICT)

    assert await world.scrub() == Scrub()
    assert world.found(PEOPLE) == set(PEOPLE)


@pytest.mark.parametrize("submitter", ["shop", "publisher"])
async def test_erasure_reaches_the_files_of_whom_it_concerns_and_no_others(
    world: KeptFiles, submitter: str
) -> None:
    async with world.ledger.begin() as conn:
        await accounts.relate(conn, world.publisher, world.shop)
    ours = await world.loaded(text_of(PEOPLE))
    theirs = await world.loaded(text_of(PEOPLE), partner_id="other")
    await world.say_no(account=getattr(world, submitter))
    lost = await world.dump()

    await world.scrub()

    assert set(await lines_of(world, ours)) == set(OTHERS)
    assert set(await lines_of(world, theirs)) == set(PEOPLE)
    assert await world.rebuilt() == lost


async def test_erasure_that_comes_to_reach_an_owner_is_seen_to_in_its_files(
    world: KeptFiles,
) -> None:
    await world.loaded(text_of(PEOPLE))
    await world.say_no(account=world.publisher)
    await world.scrub()
    assert world.found(PEOPLE) == set(PEOPLE)

    async with world.ledger.begin() as conn:
        await accounts.relate(conn, world.publisher, world.shop)
    await world.scrub()

    assert world.found(PEOPLE) == set(OTHERS)


async def test_file_that_comes_after_the_erasure_is_scrubbed_too(world: KeptFiles) -> None:
    await world.say_no()
    await world.scrub()

    job = await world.loaded(text_of(PEOPLE))
    lost = await world.dump()
    done = await world.scrub()

    assert job.report.refused == len(ERASED)
    assert done.lines == len(ERASED)
    assert world.found(PEOPLE) == set(OTHERS)
    assert await world.rebuilt() == lost


@pytest.mark.parametrize("seed", range(4))
async def test_store_that_is_rebuilt_from_scrubbed_files_is_the_lost_one_byte_for_byte(
    settings: Settings, engine: Engine, seed: int
) -> None:
    """
    With jobs that are killed and opt-outs that come between; scrubbed twice in it.
    """
    async with open_ledger(settings.ledger_dsn) as ledger, connect(engine.url) as redis:
        blobs = Blobs.in_directory(settings.data_dir / "blobs")
        scrubber = Scrubber(ledger, blobs, settings.spool_dir, time.time)
        history = History(settings, ledger, redis, blobs, seed)
        await history.begin()
        await history.happen_all(files=3)
        first = await scrubber.scrub(time.time())
        await history.happen_all(files=3)
        second = await scrubber.scrub(time.time())
        lost, lost_meta = await history.dump(), await read_meta(redis)

        await redis.flushall()
        await rebuild(history.tools, settings.expected_ids, settle_s=0)

        assert first.lines + second.lines > 0
        assert await history.dump() == lost
        assert await read_meta(redis) == lost_meta


async def test_on_both_ledgers(settings: Settings, ledger: AsyncEngine, valkey: Engine) -> None:
    async with begun(settings, ledger, valkey) as world:
        await world.loaded(text_of(PEOPLE))
        await world.say_no()
        lost = await world.dump()

        done = await world.scrub()

        assert done.lines == len(ERASED)
        assert world.found(PEOPLE) == set(OTHERS)
        assert await world.rebuilt() == lost


class Killed(Exception):
    """The end of the process, as far as the scrub can tell."""


class Dying(Blobs):
    """Dies at its nth call."""

    calls_left = 0

    def _step(self) -> None:
        if not self.calls_left:
            raise Killed
        self.calls_left -= 1

    async def put(self, name: str, chunks: object) -> Stored:
        self._step()
        stored = await super().put(name, chunks)  # type: ignore[arg-type]
        self._step()
        return stored

    async def delete(self, name: str) -> None:
        self._step()
        await super().delete(name)
        self._step()


@pytest.mark.parametrize("calls", range(8))
async def test_killed_anywhere_nothing_is_lost_and_the_next_scrub_ends_it(
    world: KeptFiles, calls: int
) -> None:
    for segment in ("1", "2"):
        await world.loaded(text_of(PEOPLE), segment=segment)
    await world.say_no()
    lost = await world.dump()
    dying = Dying.in_directory(world.folder)
    dying.calls_left = calls

    with pytest.raises(Killed):
        await Scrubber(world.ledger, dying, world.settings.spool_dir, world.now_s).scrub(
            world.now_s()
        )
    assert await world.rebuilt() == lost
    await world.scrub()
    world.ahead_s = STRAY_AFTER_S + 60
    await world.scrubber.delete_strays()

    assert await world.rebuilt() == lost
    assert world.found(PEOPLE) == set(OTHERS)
    assert len(world.contents()) == 2


async def test_strays_go_and_what_is_awaited_stays(world: KeptFiles) -> None:
    job = await world.deliver(text_of(PEOPLE))
    for name in (f"{DELIVERIES}/1/orphan", f"{UPLOADS}/nobodys"):
        await world.blobs.put(name, [text_of(PEOPLE)])
    (world.folder / DELIVERIES / "1" / "broken-off#1").write_bytes(text_of(PEOPLE))

    await world.scrubber.delete_strays()
    young = len(world.contents())
    world.ahead_s = STRAY_AFTER_S + 60
    await world.scrubber.delete_strays()
    an_hour_old = len(world.contents())
    world.ahead_s = ABANDONED_AFTER_S + 60
    await world.scrubber.delete_strays()

    assert (young, an_hour_old) == (4, 3)
    assert await world.blobs.names() == [job.blob]
    assert len(world.contents()) == 1


async def test_damaged_file_is_logged_and_keeps_no_other_from_being_scrubbed(
    world: KeptFiles, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = await world.loaded(gz_of(text_of(PEOPLE)))
    gone = await world.loaded(text_of(PEOPLE), segment="2")
    await world.loaded(text_of(PEOPLE), segment="3")
    (world.folder / damaged.blob).write_bytes(gz_of(text_of(PEOPLE))[:-20])
    (world.folder / gone.blob).unlink()
    await world.say_no()

    done = await world.scrub()

    assert (done.unreadable, done.rewritten) == (2, 1)
    assert [record.getMessage() for record in caplog.records] == [
        f"the file of job {damaged.id} can't be scrubbed: unreadable_file: archive: cut short",
        f"the file of job {gone.id} can't be scrubbed: file_not_found",
    ]


async def test_job_whose_file_went_with_its_refusal_is_passed_over(world: KeptFiles) -> None:
    refused = await world.deliver(b"no hash\n", records=1)
    loader = Loader(world.settings.loader_options, world.ledger, world.redis, world.blobs)
    job = await loader.claim()
    assert job is not None
    await loader.run_one(job, asyncio.Event())
    assert (await world.job(refused)).blob == NO_FILE
    await world.loaded(text_of(PEOPLE))
    await world.say_no()

    done = await world.scrub()

    assert (done.looked_at, done.unreadable, done.rewritten) == (1, 0, 1)


async def test_rebuild_goes_on_with_a_file_that_is_scrubbed_under_its_hands(
    world: KeptFiles,
) -> None:
    for segment in ("1", "2"):
        await world.loaded(text_of(PEOPLE), segment=segment)
    await world.say_no()
    lost = await world.dump()
    scrubbed: list[Scrub] = []

    def scrub_now(progress: Progress) -> None:
        # In a thread of its own, for `show` can't wait: between the ledger's page and the file.
        if progress.doing == "job 2" and not scrubbed:
            scrubbed.append(asyncio.run(_scrub_from_elsewhere(world.settings)))

    await world.redis.flushall()
    await rebuild(world.tools, world.settings.expected_ids, settle_s=0, show=_threaded(scrub_now))

    assert scrubbed[0].rewritten == 2
    assert await world.dump() == lost


async def test_loader_scrubs_when_half_of_the_time_has_passed(world: KeptFiles) -> None:
    """
    The other half is for the work.
    """
    await world.loaded(text_of(PEOPLE))
    await world.say_no()
    half_s = world.settings.scrub_within_h * 3600 / 2

    early = await world.scrubber.scrub(world.now_s() - half_s)
    world.ahead_s = half_s + 1
    loader = Loader(
        world.settings.loader_options, world.ledger, world.redis, world.blobs, now_s=world.now_s
    )
    stopping = asyncio.Event()
    running = asyncio.create_task(loader.run(stopping))
    async with asyncio.timeout(20):
        while world.found(ERASED):  # noqa: ASYNC110 - no event comes from the disk
            await asyncio.sleep(0.02)
    stopping.set()
    await running

    assert early.looked_at == 0
    assert world.found(PEOPLE) == set(OTHERS)


async def test_file_that_came_before_the_clock_was_set_back_is_scrubbed_in_time(
    world: KeptFiles,
) -> None:
    world.ahead_s = 30 * 86_400
    await world.loaded(text_of(PEOPLE))
    world.ahead_s = 0
    await world.say_no()

    done = await world.scrub()

    assert done.rewritten == 1
    assert world.found(PEOPLE) == set(OTHERS)


async def test_no_hash_of_a_file_stands_in_the_ledger(world: KeptFiles) -> None:
    """
    Reports, samples of bad lines and metadata tell of files without quoting them.
    """
    plants = [*PEOPLE, *email_hashes(3, "md5"), *email_hashes(3, "sha1")]
    await world.loaded(text_of(plants), records=len(plants))
    await world.loaded(b"x@example.com," + text_of(PEOPLE), records=len(PEOPLE))
    await world.loaded(text_of(PEOPLE)[:-70], segment="2")
    await world.say_no()
    await world.scrub()

    async with world.ledger.connect() as conn:
        tables = list(await conn.scalars(text("select name from sqlite_master where type='table'")))
        rows = {
            name: (await conn.execute(text(f'select * from "{name}"'))).all()
            for name in tables
            if name != "data_subject_ids"  # the tombstones: 16 bytes each, binary
        }
    said = "".join(str(value) for table in rows.values() for row in table for value in row).lower()

    assert len(rows["jobs"]) == 3
    assert [plant for plant in plants if plant[:20] in said] == []


def _threaded(show: Show) -> Show:
    def in_thread(progress: Progress) -> None:
        thread = Thread(target=show, args=(progress,))
        thread.start()
        thread.join()

    return in_thread


async def _scrub_from_elsewhere(settings: Settings) -> Scrub:
    async with open_ledger(settings.ledger_dsn) as ledger:
        blobs = Blobs.in_directory(settings.data_dir / "blobs")
        return await Scrubber(ledger, blobs, settings.spool_dir, time.time).scrub(time.time())
