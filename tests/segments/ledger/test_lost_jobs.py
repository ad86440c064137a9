"""What becomes of jobs that a store has lost, on both databases."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ledger import job_leases, jobs, lost_jobs
from segments.ledger.job_leases import LeaseLost
from segments.model.account import Account
from segments.model.job import Checkpoint, Job, JobState, Report
from segments.model.order import Order
from tests.ledger_seed import NOW_S, Seeded, seed


@pytest.fixture
async def seeded(ledger: AsyncEngine) -> Seeded:
    return await seed(ledger)


async def submitted(conn: AsyncConnection, partner: Account, name: str) -> Job:
    return await jobs.submit(
        conn, door="test", partner_id=partner.id, owner_id=partner.id, order=Order(()),
        metadata={"name": name}, blob=name, sha256=name, file_name=name, now_s=NOW_S,
    )  # fmt: skip


async def done(ledger: AsyncEngine, partner: Account, *names: str) -> list[Job]:
    """Submit some jobs and see them done, each a second after the one before."""
    ended = []
    for n, name in enumerate(names, 1):
        async with ledger.begin() as conn:
            await submitted(conn, partner, name)
            claimed = await job_leases.claim(conn, NOW_S, partner.id)
            assert claimed is not None
            job = replace(
                claimed,
                state=JobState.DONE,
                checkpoint=Checkpoint(7),
                report=Report(valid=9, written=9, added=8, duplicates=1, opt_outs_before=3),
                finished_at_s=NOW_S + n,
            )
            await job_leases.save(conn, job, NOW_S)
        ended.append(job)
    return ended


async def states(ledger: AsyncEngine) -> Sequence[JobState]:
    async with ledger.connect() as conn:
        return [job.state for job in reversed(await jobs.jobs(conn, 100))]


async def test_lost_job_begins_again_with_all_that_came_after_it_and_with_its_plan(
    ledger: AsyncEngine, seeded: Seeded
) -> None:
    _, second, _ = await done(ledger, seeded.shop, "a", "b", "c")
    await done(ledger, seeded.agency, "of another")

    async with ledger.begin() as conn:
        assert await lost_jobs.begin_again(conn, seeded.shop.id, second.id) == 2
        claimed = await job_leases.claim(conn, NOW_S, seeded.shop.id)

    assert await states(ledger) == [JobState.DONE, JobState.RUNNING, JobState.QUEUED, JobState.DONE]
    assert claimed is not None
    assert claimed.id == second.id
    assert claimed.checkpoint == Checkpoint(is_released=True)
    assert claimed.report == Report(valid=9, opt_outs_before=3)
    assert claimed.finished_at_s is None


async def test_whoever_works_on_a_later_job_loses_its_lease(
    ledger: AsyncEngine, seeded: Seeded
) -> None:
    [lost] = await done(ledger, seeded.shop, "a")
    async with ledger.begin() as conn:
        await submitted(conn, seeded.shop, "b")
        at_work = await job_leases.claim(conn, NOW_S)
    assert at_work is not None

    async with ledger.begin() as conn:
        await lost_jobs.begin_again(conn, seeded.shop.id, lost.id)

    with pytest.raises(LeaseLost):
        async with ledger.begin() as conn:
            await job_leases.save(conn, at_work, NOW_S)


async def test_jobs_are_asked_for_by_when_they_ended(ledger: AsyncEngine, seeded: Seeded) -> None:
    first, second = await done(ledger, seeded.shop, "a", "b")
    async with ledger.begin() as conn:
        unfinished = await submitted(conn, seeded.shop, "c")

    async with ledger.connect() as conn:
        since = await lost_jobs.done_since(conn, NOW_S + 1.5)
        ended = await lost_jobs.ended_before(
            conn, [first.id, second.id, unfinished.id, 999], NOW_S + 1.5
        )

    assert [(job.id, job.partner_id) for job in since] == [(second.id, seeded.shop.id)]
    assert list(ended) == [first.id]
