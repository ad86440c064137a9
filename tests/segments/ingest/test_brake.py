import dataclasses
from collections.abc import AsyncIterator

import pytest

from segments.files.blobs import Blobs
from segments.ingest.brake import ENOUGH, Held, check
from segments.ingest.external_audience.run_steps import RemovesMarked
from segments.ingest.hash_steps import RemovesNamed
from segments.ingest.parse import Parser
from segments.ingest.spool import Spool
from segments.ledger import jobs
from segments.ledger.database.engine import open_ledger
from segments.model.job import Job, JobState
from segments.model.record import Change
from segments.model.stop_reason import StopReason
from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.reader import read_meta, read_records
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from tests.engines import Engine
from tests.segments.ingest.deliveries import email_hashes, ids_of, text_of
from tests.segments.upkeep.histories import HASHES, History

MANY = email_hashes(20_000)
REMOVE = Change(1, is_add=False)


@pytest.fixture
async def history(valkey: Engine, settings: Settings) -> AsyncIterator[History]:
    """A loader that brakes at one half, and everybody in audience 1."""
    async with open_ledger(settings.ledger_dsn) as ledger, connect(valkey.url) as redis:
        blobs = Blobs.in_directory(settings.data_dir / "blobs")
        history = History(settings, ledger, redis, blobs, seed=0)
        history.tools = dataclasses.replace(history.tools, max_removed_share=0.5)
        await history.begin()
        await history.deliver(HASHES, [("1", "add")])
        await history.carry()
        yield history


async def removed(history: History, count: int) -> Job:
    """Deliver a file that removes as many persons, and carry it as far as it goes."""
    await history.deliver(HASHES[:count], [("1", "remove")])
    job = await history.carry()
    assert job is not None
    return job


async def members(history: History) -> int:
    meta = await read_meta(history.redis)
    records = await read_records(history.redis, meta, ids_of(HASHES))
    return sum(bool(record.memberships) for record in records)


async def test_file_that_removes_no_more_than_it_may_is_carried_out(history: History) -> None:
    assert (await removed(history, 200)).state is JobState.DONE

    assert await members(history) == 200


async def test_file_that_removes_more_is_held_before_the_first_person_is_gone(
    history: History,
) -> None:
    held = await removed(history, 201)

    assert held.state is JobState.HELD
    assert held.report.held_because.endswith("(201 of 400 looked at), more than 50%")
    assert await members(history) == 400


async def test_later_files_of_the_partner_wait_behind_a_held_one(history: History) -> None:
    await removed(history, 300)
    await history.deliver(HASHES, [("2", "add")])

    assert await history.carry() is None


async def test_held_file_is_carried_out_when_it_is_released(history: History) -> None:
    held = await removed(history, 400)

    async with history.ledger.begin() as conn:
        assert await jobs.release(conn, held)
        assert not await jobs.release(conn, held)
    done = await history.carry()

    assert done is not None
    assert (done.state, done.report.removed) == (JobState.DONE, 400)
    assert await members(history) == 0


async def test_held_file_that_is_refused_fails_and_removes_nobody(history: History) -> None:
    held = await removed(history, 400)

    async with history.ledger.begin() as conn:
        assert await jobs.refuse(conn, held, 1.0)
        failed = await jobs.job(conn, held.id)

    assert failed is not None
    assert (failed.state, failed.stop) == (JobState.FAILED, StopReason.NOT_RELEASED)
    assert await members(history) == 400


async def test_whoever_is_added_again_by_the_same_file_is_not_removed(history: History) -> None:
    await history.deliver(HASHES, [("1", "remove"), ("2", "add"), ("1", "add")])

    done = await history.carry()

    assert done is not None
    assert done.state is JobState.DONE


async def test_what_a_file_names_beyond_an_audience_does_not_count(history: History) -> None:
    strangers = email_hashes(5000, start=10_000)
    await history.deliver([*strangers, *HASHES[:150]], [("1", "remove")])

    done = await history.carry()

    assert done is not None
    assert done.report.removed == 150


@pytest.mark.parametrize("expected_ids", [2_000, 1_000_000], ids=["few buckets", "many buckets"])
async def test_share_of_a_large_audience_is_estimated_from_some_of_its_members(
    valkey: Engine, settings: Settings, expected_ids: int
) -> None:
    async with connect(valkey.url) as redis:
        meta = await prepare(redis, expected_ids)
        await Writer(redis, meta).merge(ids_of(MANY), [REMOVE._replace(is_add=True)])

        for named, is_held in ((9_000, False), (11_500, True)):
            with Spool(settings.spool_dir) as spool:
                spool.add(Parser("sha2").feed(text_of(MANY[:named])))
                spool.finish()
                why = ""
                try:
                    await check(
                        redis, meta, spool, [REMOVE], RemovesNamed(), max_removed_share=0.5, seed=1
                    )
                except Held as held:
                    why = str(held)

            assert bool(why) is is_held
        looked_at = int(why.split(" of ")[2].split(" ")[0].replace(",", ""))
        assert ENOUGH <= looked_at < len(MANY)


@pytest.mark.parametrize(("today", "is_held"), [(5, True), (6, False)])
async def test_member_whose_time_was_over_before_is_not_removed_by_a_replacement(
    valkey: Engine, settings: Settings, today: int, is_held: bool
) -> None:
    async with connect(valkey.url) as redis:
        meta = await prepare(redis, 2_000)
        await Writer(redis, meta).merge(ids_of(HASHES), [Change(1, True, expiry_day=5)])

        with Spool(settings.spool_dir) as spool:
            spool.finish()
            checking = check(
                redis,
                meta,
                spool,
                [Change(1, is_add=True)],
                RemovesMarked(replaces=True),
                max_removed_share=0.5,
                seed=1,
                today=today,
            )
            if is_held:
                with pytest.raises(Held, match="100%"):
                    await checking
            else:
                await checking
