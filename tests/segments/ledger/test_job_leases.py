"""A job is one loader's at a time, and no other takes it while that one may live."""

import asyncio
import os
import subprocess
import sys

import pytest
from msgspec.structs import replace
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import jobs
from segments.ledger.job_leases import LEASE_S, LeaseLost
from segments.ledger.lease_owner import this_process
from segments.ledger.tables import jobs as table
from segments.model.job import Job, JobState
from tests.segments.ledger.some_jobs import NOW_S, added_partners, claim, get, save, submit


@pytest.fixture
async def partners(ledger: AsyncEngine) -> list[int]:
    return await added_partners(ledger)


async def lease_to(ledger: AsyncEngine, job: Job, owner: str) -> None:
    async with ledger.begin() as conn:
        await conn.execute(update(table).where(table.c.id == job.id).values(lease_owner=owner))


async def test_oldest_job_is_claimed_first_and_one_of_each_partner(
    ledger: AsyncEngine, partners: list[int]
) -> None:
    """
    A partner's removal must not overtake the addition that came before it.
    """
    a1, a2 = [await submit(ledger, partners[0], sha256) for sha256 in "12"]
    b1 = await submit(ledger, partners[1])

    claimed = [await claim(ledger) for _ in range(3)]

    assert [job and job.id for job in claimed] == [a1.id, b1.id, None]
    assert claimed[0] is not None
    await save(ledger, replace(claimed[0], state=JobState.DONE))
    after = await claim(ledger)
    assert after is not None
    assert after.id == a2.id


async def test_held_job_is_waited_for_by_its_partner_alone(
    ledger: AsyncEngine, partners: list[int]
) -> None:
    await submit(ledger, partners[0])
    job = await claim(ledger)
    assert job is not None
    await save(ledger, replace(job, state=JobState.HELD))
    waiting = await submit(ledger, partners[0], "2")
    other = await submit(ledger, partners[1])

    claimed = await claim(ledger)

    assert claimed is not None
    assert claimed.id == other.id
    assert await claim(ledger, partner_id=partners[0]) is None
    async with ledger.connect() as conn:
        before = await jobs.unfinished_before(conn, waiting)
    assert [held.id for held in before] == [job.id]


async def test_job_of_a_partner_can_be_asked_for(ledger: AsyncEngine, partners: list[int]) -> None:
    await submit(ledger, partners[0])
    b = await submit(ledger, partners[1])

    claimed = await claim(ledger, partner_id=partners[1])

    assert claimed is not None
    assert claimed.id == b.id


async def test_lease_keeps_others_off_until_it_runs_out(
    ledger: AsyncEngine, partners: list[int]
) -> None:
    job = await submit(ledger, partners[0])
    await claim(ledger)
    await lease_to(ledger, job, "another-machine::1:2")

    assert await claim(ledger, NOW_S + LEASE_S - 1) is None
    taken = await claim(ledger, NOW_S + LEASE_S + 1)

    assert taken is not None
    assert taken.checkpoint.deaths == 1


async def test_lease_taken_before_the_clock_was_set_back_is_not_waited_for(
    ledger: AsyncEngine, partners: list[int]
) -> None:
    job = await submit(ledger, partners[0])
    await claim(ledger)
    await lease_to(ledger, job, "another-machine::1:2")

    assert await claim(ledger, NOW_S - LEASE_S) is None  # a clock that is behind
    assert await claim(ledger, NOW_S - 3600) is not None


async def test_save_extends_the_lease(ledger: AsyncEngine, partners: list[int]) -> None:
    await submit(ledger, partners[0])
    job = await claim(ledger)
    assert job is not None

    await save(ledger, job, NOW_S + 50)

    assert await claim(ledger, NOW_S + LEASE_S + 1) is None


async def test_released_job_is_had_at_once_and_counts_no_death(
    ledger: AsyncEngine, partners: list[int]
) -> None:
    await submit(ledger, partners[0])
    job = await claim(ledger)
    assert job is not None

    await save(ledger, replace(job, state=JobState.QUEUED))
    again = await claim(ledger)

    assert again is not None
    assert again.checkpoint.deaths == 0


async def test_dead_process_of_this_machine_is_not_waited_for(
    ledger: AsyncEngine, partners: list[int]
) -> None:
    job = await submit(ledger, partners[0])
    await claim(ledger)
    # Not of asyncio, which would ask for its status as soon as it is dead.
    owner = await asyncio.to_thread(_started)
    assert owner.stdout is not None
    await lease_to(ledger, job, (await asyncio.to_thread(owner.stdout.readline)).strip())

    while_alive = await claim(ledger)
    owner.kill()
    # Dead, and nobody has asked for its status yet.
    await asyncio.to_thread(os.waitid, os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
    when_dead = await claim(ledger)
    await asyncio.to_thread(owner.communicate)

    assert while_alive is None
    assert when_dead is not None


def _started() -> "subprocess.Popen[str]":
    """Start a process that says what it is called, and waits."""
    program = """
import sys
from segments.ledger.lease_owner import this_process
print(this_process(), flush=True)
sys.stdin.read()
"""
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_process_that_has_the_number_of_a_dead_one_is_another(
    ledger: AsyncEngine, partners: list[int]
) -> None:
    """
    In a container, the loader has the same process id after every restart.
    """
    job = await submit(ledger, partners[0])
    await claim(ledger)
    await lease_to(ledger, job, this_process().rpartition(":")[0] + ":1")

    assert await claim(ledger) is not None


async def test_who_lost_the_lease_can_not_save(ledger: AsyncEngine, partners: list[int]) -> None:
    await submit(ledger, partners[0])
    job = await claim(ledger)
    assert job is not None
    await lease_to(ledger, job, "another-machine::1:2")

    with pytest.raises(LeaseLost):
        await save(ledger, replace(job, state=JobState.DONE))

    unchanged = await get(ledger, job.id)
    assert unchanged is not None
    assert unchanged.state is JobState.RUNNING


async def test_job_that_has_ended_can_not_be_saved_over(
    ledger: AsyncEngine, partners: list[int]
) -> None:
    await submit(ledger, partners[0])
    job = await claim(ledger)
    assert job is not None
    await save(ledger, replace(job, state=JobState.DONE))

    with pytest.raises(LeaseLost):
        await save(ledger, job)


async def test_job_is_claimed_once_however_many_ask(
    ledger: AsyncEngine, partners: list[int]
) -> None:
    await submit(ledger, partners[0])

    claimed = await asyncio.gather(*(claim(ledger) for _ in range(10)))

    assert sum(job is not None for job in claimed) == 1
