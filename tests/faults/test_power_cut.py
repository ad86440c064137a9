"""
The power goes: the store comes back without its last writes.

Its process is killed and the end of its append-only file cut off, anywhere: that
is what is left of one that is synced once a second. The ledger, which waits for
the disk with every transaction, knows more than the store then.
"""

import asyncio
import time
from pathlib import Path
from random import Random

import pytest
from redis.asyncio import Redis

from segments.ingest.parse import Parser
from segments.ingest.realtime import Chunk, Realtime
from segments.ingest.spool import PARTS
from segments.ledger import accounts, audiences, jobs
from segments.ledger.database.engine import reading
from segments.loader.loader import Loader
from segments.model.account import Account
from segments.model.audience import Audience
from segments.model.job import Job, JobState
from segments.model.order import SegmentAction
from segments.projection.catalog import catch_up
from segments.store import job_marks
from segments.store.reader import StoreUnusable
from segments.upkeep.lost_jobs import KEPT_FOR_S, forget_old
from tests.faults.host import ROWS, Deliveries, Host, a_host
from tests.segments.ingest.deliveries import PARTNER_ID

CHUNK_ROWS = 50


def aof(host: Host) -> Path:
    """Return the file that the store appends to."""
    (found,) = (host.settings.data_dir / "store" / "appendonlydir").glob("*.incr.aof")
    return found


async def cut(host: Host, size_bytes: int) -> None:
    """Cut the power when so much of the store's file was on the disk."""
    await host.kill_store()
    with aof(host).open("r+b") as file:
        file.truncate(size_bytes)
    await host.store.start()


async def carry_all(host: Host, redis: Redis) -> list[Job]:
    """Do what a loader does that is started anew."""
    loader = Loader(host.settings.loader_options, host.ledger, redis, host.blobs)
    await loader.catch_up()
    while (job := await loader.claim()) is not None:
        await loader.run_one(job, asyncio.Event())
    return await all_jobs(host)


async def all_jobs(host: Host) -> list[Job]:
    async with reading(host.ledger) as conn:
        return list(reversed(await jobs.jobs(conn, 100)))


async def send_chunk(host: Host, redis: Redis, action: SegmentAction, content: bytes) -> None:
    """Send some hashes to the realtime door."""
    account, audience = await _parties(host)
    at_once = Realtime(host.settings.expected_ids, host.ledger, redis, host.blobs, time.time)
    ids = Parser("sha2").feed(content)
    applied = await at_once.apply(account, Chunk(audience, action, "sha2", content, ids))
    assert applied.is_in_store


async def _parties(host: Host) -> tuple[Account, Audience]:
    async with host.ledger.begin() as conn:
        partner = await accounts.partner(conn, PARTNER_ID)
        audience = await audiences.find_or_create_audience(
            conn, partner, partner, "77", "Realtime", now_s=0
        )
    return partner, audience


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(3))
async def test_whatever_the_store_has_lost_of_what_was_done_is_written_again(seed: int) -> None:
    rng = Random(seed)
    deliveries = Deliveries(seed, files=3)
    async with a_host() as (host, redis):
        await carry_all(host, redis)
        await host.deliver(deliveries)
        await carry_all(host, redis)
        before_chunks = aof(host).stat().st_size
        head = b"".join(deliveries.files[0][0].splitlines(keepends=True)[:CHUNK_ROWS])
        await send_chunk(host, redis, SegmentAction.ADD, head)
        await send_chunk(host, redis, SegmentAction.REMOVE, head[: len(head) // 2])
        await host.erase(redis, deliveries.erased[0])
        held, reported = (
            await host.dump(redis),
            [job.report.written for job in await all_jobs(host)],
        )
        end = aof(host).stat().st_size
        on_disk = rng.randrange(before_chunks if seed % 2 else 4096, end)

        await cut(host, on_disk)
        lost = await host.dump(redis)
        done = await carry_all(host, redis)

        assert lost != held
        assert await host.dump(redis) == held
        assert {job.state for job in done} == {JobState.DONE}
        assert [job.report.written for job in done] == reported


@pytest.mark.timeout(300)
async def test_checkpoint_that_the_store_does_not_bear_out_is_not_believed() -> None:
    deliveries = Deliveries(9, files=1)
    async with a_host() as (host, redis):
        await host.deliver(deliveries)
        await carry_all(host, redis)
        expected = await host.dump(redis)

    async with a_host() as (host, redis):
        await host.deliver(deliveries)
        loader = Loader(host.settings.loader_options, host.ledger, redis, host.blobs)
        await loader.catch_up()
        empty = aof(host).stat().st_size
        job = await loader.claim()
        assert job is not None

        stopping = asyncio.Event()

        def stop_midway(job: Job) -> None:
            if job.checkpoint.next_part > PARTS // 3:
                stopping.set()

        stopped = await loader.run_one(job, stopping, stop_midway)
        assert (stopped.state, stopped.checkpoint.next_part > 0) == (JobState.QUEUED, True)
        full = aof(host).stat().st_size
        await cut(host, (empty + full) // 2)
        [done] = await carry_all(host, redis)

        assert await host.dump(redis) == expected
        assert (done.state, done.report.written) == (JobState.DONE, ROWS)


@pytest.mark.timeout(300)
async def test_server_that_falls_back_under_a_job_is_noticed_at_its_next_checkpoint() -> None:
    """
    Our client connects anew by itself, so the job sees nothing else of it.
    """
    deliveries = Deliveries(10, files=1)
    async with a_host() as (host, redis):
        [job] = await host.deliver(deliveries)
        mark = job_marks.Mark(redis, job.id)
        await catch_up(host.ledger, redis, host.settings.expected_ids)
        assert await mark.parts() == 0
        on_disk = aof(host).stat().st_size
        await mark.move(7)

        await cut(host, on_disk)

        with pytest.raises(StoreUnusable, match="lost"):
            await mark.move(9)
        assert await mark.parts() == 0


async def test_mark_moves_again_where_the_reply_was_lost() -> None:
    async with a_host() as (_, redis):
        mark, same = job_marks.Mark(redis, 1), job_marks.Mark(redis, 1)
        await mark.parts()
        await same.parts()

        await mark.move(7)
        await same.move(7)

        assert await job_marks.Mark(redis, 1).parts() == 7


async def test_marks_of_jobs_that_ended_long_ago_are_dropped_and_nothing_is_carried_again() -> None:
    deliveries = Deliveries(11, files=2)
    async with a_host() as (host, redis):
        await carry_all(host, redis)
        await host.deliver(deliveries)
        done = await carry_all(host, redis)
        finished_s = max(job.finished_at_s or 0 for job in done)

        await forget_old(host.ledger, redis, finished_s)
        kept = await job_marks.known(redis)
        await forget_old(host.ledger, redis, finished_s + KEPT_FOR_S + 1)

        assert kept == [job.id for job in done]
        assert await job_marks.known(redis) == []
        assert [job.finished_at_s for job in await carry_all(host, redis)] == [
            job.finished_at_s for job in done
        ]


async def test_store_that_keeps_no_marks_yet_is_believed() -> None:
    """
    That of an earlier version, and one that was emptied: that one is for `rebuild`.
    """
    deliveries = Deliveries(12, files=1)
    async with a_host() as (host, redis):
        await host.deliver(deliveries)
        [done] = await carry_all(host, redis)
        await redis.delete("seg:1:jobs")

        [same] = await carry_all(host, redis)

        assert same == done
        assert await job_marks.since(redis) is not None


async def test_store_that_was_emptied_is_not_taken_for_one_that_lost_jobs() -> None:
    """
    What an emptied store held is for `rebuild`; housekeeping must not date its marks back.
    """
    async with a_host() as (host, redis):
        await host.deliver(Deliveries(12, files=1))
        done = await carry_all(host, redis)
        await redis.flushall()
        await carry_all(host, redis)

        await forget_old(host.ledger, redis, time.time())
        found = await carry_all(host, redis)

        assert [job.finished_at_s for job in found] == [job.finished_at_s for job in done]
        assert await host.dump(redis) == {}
