from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts.trail import By, note
from segments.ledger import accounts, jobs
from segments.ledger.privacy import scrubs
from segments.model.job import Job, JobState
from segments.model.refusal import Refusal


async def release(conn: AsyncConnection, by: By, job: Job, reason: str | None = None) -> None:
    """
    Let a held job continue despite its removals; `reason` goes into the trail.

    Raises:
        Refusal: The job is not held.
    """
    await _end_hold(conn, by, job, "job release", reason, await jobs.release(conn, job))


async def refuse(conn: AsyncConnection, by: By, job: Job, reason: str | None = None) -> None:
    """
    End a held job without removing anything; `reason` goes into the trail.

    Raises:
        Refusal: The job is not held.
    """
    await _end_hold(conn, by, job, "job refuse", reason, await jobs.refuse(conn, job, by.now_s))
    # The loader's next scrub, seconds later, deletes the file.
    await scrubs.retire(conn, [job.blob])


async def _end_hold(
    conn: AsyncConnection, by: By, job: Job, what: str, reason: str | None, is_done: bool
) -> None:
    if not is_done:
        raise Refusal(f"job {job.id} is {job.state}, not {JobState.HELD}")
    owner = await accounts.account(conn, job.owner_id)
    said = {} if reason is None else {"reason": reason}
    detail = {"transaction": job.transaction_id, "held_because": job.report.held_because, **said}
    await note(conn, by, what, f"job {job.id}", scope=owner, detail=detail)
