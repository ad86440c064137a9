"""A store made anew from the ledger and the blobs is the one that was lost, byte for byte."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from segments.ledger import audiences, job_leases, jobs
from segments.model.audience import AudienceState
from segments.model.identity import IdentifierKind
from segments.model.job import JobState
from segments.model.record import Change, OptOutAction, Record
from segments.projection.catalog import catch_up
from segments.projection.in_force import Receipt
from segments.projection.opt_outs import record_opt_out
from segments.settings import Settings
from segments.store import keys, rebuild_claim
from segments.store.meta import prepare
from segments.store.reader import Meta, StoreUnusable, read_catalog, read_meta, read_records
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from segments.upkeep.rebuild import CannotRebuild, Progress, rebuild
from tests.engines import Engine
from tests.segments.ingest.deliveries import ids_of
from tests.segments.upkeep.histories import HASHES, History, Killed, begun

Dump = dict[bytes, dict[bytes, bytes]]


@pytest.fixture
async def redis(valkey: Engine) -> AsyncIterator[Redis]:
    async with connect(valkey.url) as client:
        yield client


@pytest.fixture
async def history(settings: Settings, redis: Redis) -> AsyncIterator[History]:
    async with begun(settings, redis) as history:
        yield history


async def rebuilt(history: History, **how: Any) -> Dump:
    """Rebuild the store and return what it holds."""
    await rebuild(history.tools, history.settings.expected_ids, settle_s=0, **how)
    return await history.dump()


async def members(history: History, hashes: list[str]) -> list[Record]:
    meta = await read_meta(history.redis)
    return await read_records(history.redis, meta, ids_of(hashes))


@pytest.mark.parametrize("seed", range(6))
async def test_rebuilt_store_is_the_lost_one_byte_for_byte(
    settings: Settings, redis: Redis, seed: int
) -> None:
    async with begun(settings, redis, seed) as history:
        await history.happen_all()
        lost, lost_meta = await history.dump(), await read_meta(redis)
        lost_catalog = await read_catalog(redis)
        await redis.flushall()

        found = await rebuilt(history)

        assert found == lost
        assert await read_meta(redis) == lost_meta
        assert await read_catalog(redis) == lost_catalog


async def test_store_stays_closed_until_its_last_opt_out_is_written(
    history: History, valkey: Engine
) -> None:
    """
    Opened a moment earlier, it would show a person who has opted out.
    """
    await history.happen_all(files=2)
    lost = await history.dump()
    closed: dict[str, bool] = {}
    with SyncRedis.from_url(valkey.url) as other:

        def show(progress: Progress) -> None:
            closed[progress.doing] = not other.hexists(keys.META, "layout")

        found = await rebuilt(history, show=show)

    assert found == lost
    assert {"deleting what is there", "job 1", "sweeping", "opt-outs"} < closed.keys()
    assert all(closed.values())


async def test_nobody_else_writes_while_it_is_rebuilt(history: History, valkey: Engine) -> None:
    refusals = []
    with SyncRedis.from_url(valkey.url) as other:
        meta = await read_meta(history.redis)

        async def try_all() -> None:
            for attempt in (
                prepare(history.redis, 10_000),
                catch_up(history.ledger, history.redis, history.settings.expected_ids),
                Writer(history.redis, meta).merge(ids_of(HASHES), [Change(1, is_add=True)]),
            ):
                with pytest.raises(StoreUnusable) as refused:
                    await attempt
                refusals.append(str(refused.value))

        other.set(keys.REBUILD, "somebody")
        other.delete(keys.META)
        await try_all()

    assert "`rtb-segments rebuild`" in refusals[0]
    assert await history.dump() == {}


async def test_opt_out_that_comes_while_it_is_rebuilt_is_in_the_store_when_it_opens(
    history: History,
) -> None:
    await deliver_all(history)
    waiting: list[asyncio.Task[Receipt]] = []

    def show(progress: Progress) -> None:
        if progress.doing == "sweeping" and not waiting:
            waiting.append(asyncio.create_task(restrict(history, HASHES[0])))

    await rebuilt(history, show=show)

    [receipt] = [await task for task in waiting]
    [record] = await members(history, HASHES[:1])
    assert "seg:1:meta" in receipt.waits_because
    assert record.opt_outs


async def test_rebuild_that_was_killed_leaves_a_closed_store_and_is_begun_anew(
    history: History,
) -> None:
    await history.happen_all(files=2)
    lost = await history.dump()

    def show(progress: Progress) -> None:
        if progress.doing == "job 2":
            raise Killed

    with pytest.raises(Killed):
        await rebuilt(history, show=show)
    with pytest.raises(StoreUnusable):
        await read_meta(history.redis)

    assert await rebuilt(history) == lost


async def test_of_two_rebuilds_the_later_one_goes_on(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deliver_all(history)
    lost = await history.dump()
    take, hand_over = rebuild_claim.take, rebuild_claim.hand_over
    others: list[asyncio.Task[Dump]] = []
    is_taken_again = asyncio.Event()

    def show(progress: Progress) -> None:
        if progress.doing == "opt-outs" and not others:
            others.append(asyncio.create_task(rebuilt(history)))

    async def noted(redis: Redis, *, is_automatic: bool) -> str:
        name = await take(redis, is_automatic=is_automatic)
        if others:
            is_taken_again.set()
        return name

    async def late(redis: Redis, name: str, meta: Meta) -> None:
        await is_taken_again.wait()
        await hand_over(redis, name, meta)

    monkeypatch.setattr(rebuild_claim, "take", noted)
    monkeypatch.setattr(rebuild_claim, "hand_over", late)

    with pytest.raises(StoreUnusable, match="another rebuild"):
        await rebuilt(history, show=show)
    await asyncio.gather(*others)

    assert await history.dump() == lost


async def test_rebuild_waits_for_a_loader_that_still_runs_a_job(history: History) -> None:
    await history.deliver(HASHES, [("1", "add")])
    async with history.ledger.begin() as conn:
        job = await job_leases.claim(conn, time.time())
    assert job is not None
    began = asyncio.create_task(rebuilt(history))

    done, _ = await asyncio.wait({began}, timeout=0.5)
    assert not done
    async with history.ledger.begin() as conn:
        await job_leases.save(conn, replace(job, state=JobState.QUEUED), time.time())

    assert await began == {}


async def test_of_an_unfinished_job_there_is_what_its_checkpoint_says(history: History) -> None:
    """
    The rest comes with the job itself: together it is what it would have been.
    """
    await history.deliver(HASHES, [("1", "add")])
    while True:
        job = await history.carry(kill=0.5)
        assert job is not None
        if job.checkpoint.next_part:
            break

    part = await rebuilt(history)
    assert 0 < sum(map(len, part.values())) < len(HASHES)
    await history.carry()

    assert sum(len(record.memberships) for record in await members(history, HASHES)) == len(HASHES)


async def test_memberships_that_are_over_or_of_a_deleted_audience_do_not_come_back(
    history: History,
) -> None:
    await deliver_all(history)
    async with history.ledger.begin() as conn:
        deleted = await audiences.find_audience(conn, history.partner, "1")
        assert deleted is not None
        await audiences.set_state(conn, deleted, AudienceState.DELETED, now_s=0)

    await rebuilt(history)

    assert {len(record.memberships) for record in await members(history, HASHES)} == {1}


async def test_file_that_is_gone_is_named_by_its_job_and_can_be_left_out(history: History) -> None:
    await deliver_all(history)
    async with history.ledger.connect() as conn:
        [_, first] = await jobs.jobs(conn, 10)
    before = await history.dump()
    await history.tools.blobs.delete(first.blob)

    with pytest.raises(CannotRebuild, match=f"gone: job {first.id} ") as refused:
        await rebuilt(history)
    assert not refused.value.is_closed
    assert await history.dump() == before
    done = await rebuild(history.tools, 10_000, settle_s=0, skip_missing=True)

    assert done.skipped == (first.id,)
    assert {len(record.memberships) for record in await members(history, HASHES)} == {1}


async def test_file_that_can_not_be_read_leaves_a_closed_store_and_can_be_left_out(
    history: History,
) -> None:
    await deliver_all(history)
    async with history.ledger.connect() as conn:
        [_, first] = await jobs.jobs(conn, 10)
    await history.tools.blobs.put(first.blob, [b"no ids"])

    with pytest.raises(CannotRebuild, match=f"file of job {first.id} can't be read") as refused:
        await rebuilt(history)
    assert refused.value.is_closed
    with pytest.raises(StoreUnusable):
        await read_meta(history.redis)
    done = await rebuild(history.tools, 10_000, settle_s=0, skip_missing=True)

    assert done.skipped == (first.id,)


async def test_ids_that_were_scrubbed_from_a_file_do_not_keep_it_from_being_read(
    history: History,
) -> None:
    await deliver_all(history)
    async with history.ledger.connect() as conn:
        [last, _] = await jobs.jobs(conn, 10)
    await history.tools.blobs.put(last.blob, ids_of(HASHES[1:]))

    await rebuilt(history)

    counts = [len(record.memberships) for record in await members(history, HASHES)]
    assert counts == [1] + [2] * (len(HASHES) - 1)


async def test_keys_of_others_are_left_alone(history: History) -> None:
    await history.redis.set("somebody:else", "1")

    await rebuilt(history)

    assert await history.redis.get("somebody:else") == b"1"


async def deliver_all(history: History) -> None:
    """Put everybody into two audiences, by a file each."""
    for segment in ("1", "2"):
        await history.deliver(HASHES, [(segment, "add")])
        await history.carry()


async def restrict(history: History, email_hash: str) -> Receipt:
    [id_] = ids_of([email_hash])
    return await record_opt_out(
        history.ledger, history.redis, OptOutAction.RESTRICT, [(IdentifierKind.EMAIL, id_)]
    )
