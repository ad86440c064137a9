"""A job is what was delivered, once, and comes back as it was saved."""

from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import jobs
from segments.model.job import BadLine, BadLineReason, Checkpoint, JobState, Planned, Report, failed
from segments.model.order import SegmentAction
from segments.model.stop_reason import Stopped, StopReason
from tests.segments.ledger.some_jobs import NOW_S, added_partners, claim, get, save, submit


@pytest.fixture
async def partners(ledger: AsyncEngine) -> list[int]:
    return await added_partners(ledger)


async def test_job_comes_back_as_it_was_saved(ledger: AsyncEngine, partners: list[int]) -> None:
    await submit(ledger, partners[0])
    job = await claim(ledger)
    assert job is not None
    job = replace(
        job,
        checkpoint=Checkpoint(7, 1),
        report=Report(
            rows=3,
            bad_lines=(BadLine(2, BadLineReason.TOO_LONG),),
            segments=(Planned("1", SegmentAction.ADD, 5, 9), Planned("x", SegmentAction.REMOVE)),
        ),
    )

    await save(ledger, job)
    assert await get(ledger, job.id) == job

    ended = failed(job, Stopped(StopReason.DIGEST_MISMATCH, "in: words"), NOW_S + 1)
    await save(ledger, ended)
    assert await get(ledger, job.transaction_id) == ended


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="nothing"),
        pytest.param("x", id="a letter"),
        pytest.param("999", id="another number"),
        pytest.param("١", id="a digit of another script"),
        pytest.param("0000000000000000", id="another transaction"),
        pytest.param("1" * 30, id="an enormous number"),
    ],
)
async def test_no_job_has_a_name_that_none_was_given(
    ledger: AsyncEngine, partners: list[int], name: str
) -> None:
    await submit(ledger, partners[0])

    assert await get(ledger, name) is None


async def test_same_delivery_is_one_job_until_it_has_ended(
    ledger: AsyncEngine, partners: list[int]
) -> None:
    first = await submit(ledger, partners[0])
    assert await submit(ledger, partners[0]) == first

    job = await claim(ledger)
    assert job is not None
    await save(ledger, replace(job, state=JobState.DONE))

    assert (await submit(ledger, partners[0])).id != first.id


@pytest.mark.parametrize(
    "fields",
    [{"sha256": "2"}, {"metadata": {"n": 2}}],
    ids=["another file", "another description"],
)
async def test_other_delivery_is_another_job(
    ledger: AsyncEngine, partners: list[int], fields: dict[str, Any]
) -> None:
    first = await submit(ledger, partners[0])

    assert (await submit(ledger, partners[0], **fields)).id != first.id
    assert (await submit(ledger, partners[1])).id != first.id


async def test_delivery_made_again_behind_another_is_a_job_of_its_own(
    ledger: AsyncEngine, partners: list[int]
) -> None:
    """
    Of "add, remove, add" the third is not the first: the persons end up added.
    """
    add = await submit(ledger, partners[0], "1", metadata={"action": "add"})
    await submit(ledger, partners[0], "1", metadata={"action": "remove"})

    again = await submit(ledger, partners[0], "1", metadata={"action": "add"})

    assert again.id > add.id


async def test_latest_jobs_come_first(ledger: AsyncEngine, partners: list[int]) -> None:
    submitted = [await submit(ledger, partners[0], str(n)) for n in range(5)]

    async with ledger.connect() as conn:
        latest = await jobs.jobs(conn, 3)

    assert [job.id for job in latest] == [job.id for job in reversed(submitted)][:3]
