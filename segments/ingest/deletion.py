"""
What a deleted audience leaves of the jobs that changed it: as little as can be.

    jobs to come    fail; one that is at work is its loader's, which asks at its end (`tidy`)
    jobs that are   no longer change it, so a rebuild does not write it
    over            a job that changed nothing else has no file any more, and no bad lines

A file is noted as retired in the transaction in which its job forgets it, and deleted by
whoever called when that is through: was that one killed before, the next scrub, seconds
later, deletes it. The memberships in the store are the sweep's, which whoever deletes
an audience asks for; no bid shows them from the moment of the deletion.

What a vendor's audience leaves besides: `crm_audience.deletion`, `external_audience.deletion`.
"""

from collections.abc import Iterable, Mapping

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.files.blobs import Blobs
from segments.ingest.ids_only import goes_at_s
from segments.ledger import jobs
from segments.ledger.privacy import late_opt_outs, scrubs
from segments.model.audience import Audience, AudienceState
from segments.model.job import NO_FILE, UNFINISHED, Job, failed
from segments.model.stop_reason import OURS, Stopped, StopReason


async def end_jobs(
    conn: AsyncConnection, audience: Audience, job_ids: Iterable[int], *, now_s: float
) -> list[str]:
    """
    End the jobs that are to change a deleted audience and nothing else, and forget it in others.

    Args:
        conn: The transaction that deletes it.
        audience: As it was.
        job_ids: The jobs that changed it.
        now_s: When.

    Returns:
        The files to be deleted when the transaction is through.
    """
    over = set(job_ids)
    for seen in await jobs.unfinished_of(conn, audience.owner_id):
        job = await jobs.locked(conn, seen.id)
        if job is None or job.state not in UNFINISHED:
            continue  # it has just ended
        if all(
            s.audience_id == audience.id if s.audience_id else s.segment_id == audience.segment_id
            for s in job.order.segments
        ):
            await jobs.rewrite(conn, failed(job, Stopped(StopReason.AUDIENCE_DELETED), now_s))
            over.add(job.id)
    blobs = await forget_in_jobs(conn, audience.id, over)
    await scrubs.retire(conn, blobs)
    return blobs


async def forget_in_jobs(
    conn: AsyncConnection, audience_id: int, job_ids: Iterable[int]
) -> list[str]:
    """
    Have jobs that are over change an audience no longer.

    Returns:
        The files of those that change nothing now; they name them no longer.
    """
    blobs = []
    for job_id in sorted(job_ids):
        job = await jobs.locked(conn, job_id)
        if job is None or job.state in UNFINISHED:
            continue
        left = tuple(p for p in job.report.segments if p.audience_id not in (audience_id, None))
        forgetful = replace(job, report=replace(job.report, segments=left))
        if not left:
            blobs.append(job.blob)
            forgetful = replace(
                forgetful, blob=NO_FILE, report=replace(forgetful.report, bad_lines=())
            )
            await late_opt_outs.forget(conn, job.id)
        await jobs.rewrite(conn, forgetful)
    return [blob for blob in blobs if blob != NO_FILE]


async def tidy(
    conn: AsyncConnection,
    job: Job,
    states: Mapping[int, AudienceState],
    *,
    now_s: float,
    refused_file_s: float,
) -> list[str]:
    """
    Have a job that has just ended keep nothing that it need not.

    That is: nothing of audiences that were deleted while it was at work, and no file of
    which nothing was written, unless it may be of use: see `segments.ingest.ids_only`. Of
    these vendors' audiences it is of use to corrected metadata alone.

    Args:
        conn: A transaction.
        job: As it ended.
        states: How the audiences stand of which so little is to be kept.
        now_s: When.
        refused_file_s: How long a file is kept that was refused for its metadata.

    Returns:
        The files to be deleted when the transaction is through.
    """
    if job.state in UNFINISHED:
        return []
    blobs = []
    for audience_id, state in states.items():
        if state is AudienceState.DELETED:
            blobs += await forget_in_jobs(conn, audience_id, [job.id])
    if job.report.delivered_blob:
        blobs.append(job.report.delivered_blob)
    is_of_use = goes_at_s(job, refused_file_s) > now_s and not (states and job.stop in OURS)
    if job.has_written_nothing and not is_of_use and job.blob not in (*blobs, NO_FILE):
        await jobs.rewrite(conn, replace(job, blob=NO_FILE))
        blobs.append(job.blob)
    await scrubs.retire(conn, blobs)
    return blobs


async def delete_files(ledger: AsyncEngine, blobs: Blobs, names: Iterable[str]) -> None:
    """Delete files that were retired."""
    for name in names:
        await blobs.delete(name)
        async with ledger.begin() as conn:
            await scrubs.deleted(conn, name)
