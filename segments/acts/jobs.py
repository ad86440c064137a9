"""Acts on held jobs: to let one go on, or to end it."""

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts.trail import By, note
from segments.ledger import accounts, jobs
from segments.ledger.privacy import scrubs
from segments.model.job import Job, JobState
from segments.model.refusal import Refusal


async def release(conn: AsyncConnection, by: By, job: Job) -> None:
    """
    Let a held job go on, whatever it removes.

    Raises:
        Refusal: It is not held.
    """
    await _end_hold(conn, by, job, "job release", is_done=await jobs.release(conn, job))


async def refuse(conn: AsyncConnection, by: By, job: Job) -> None:
    """
    End a held job, with nothing removed.

    Raises:
        Refusal: It is not held.
    """
    await _end_hold(conn, by, job, "job refuse", is_done=await jobs.refuse(conn, job, by.now_s))
    # Nobody reads its file again; the loader's next scrub, seconds later, deletes it.
    await scrubs.retire(conn, [job.blob])


async def _end_hold(conn: AsyncConnection, by: By, job: Job, what: str, *, is_done: bool) -> None:
    if not is_done:
        raise Refusal(f"job {job.id} is {job.state}, not {JobState.HELD}")
    owner = await accounts.account(conn, job.owner_id)
    detail = {"transaction": job.transaction_id, "held_because": job.report.held_because}
    await note(conn, by, what, f"job {job.id}", scope=owner, detail=detail)
