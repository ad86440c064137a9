"""
Deletes an audience of the CRM door, and what the ledger and the blobs keep of it.

    audience       deleted; its name and description are blanked
    activations    deleted
    uploads        deleted: what files brought, and URLs for files to come
    jobs           no longer change it: a rebuild does not write it; one that changed
                   nothing else has no file any more, and fails if it is still to come

A job at work is its loader's, which asks at the end whether its audiences are
still there: `tidy`. The memberships in the store are the sweep's; no bid shows
them from the moment of the deletion.

A file is deleted by whoever called, when the transaction is through. Was that
one killed before, no job names the file and the next sweep finds it.
"""

from collections.abc import Iterable

from msgspec.structs import replace
from sqlalchemy import delete, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger import audiences, jobs
from segments.ledger.crm_audience import audiences as crm_audiences_of
from segments.ledger.crm_audience import uploads as crm_uploads
from segments.ledger.privacy import late_opt_outs
from segments.ledger.tables import activations, crm_audiences, uploads
from segments.ledger.tables import audiences as _audiences
from segments.model.audience import Audience, AudienceState
from segments.model.job import NO_FILE, UNFINISHED, Job, JobState, failed
from segments.model.stop_reason import Stopped, StopReason


async def delete_audience(conn: AsyncConnection, audience: Audience, *, now_s: float) -> list[str]:
    """
    Delete an audience and all that is connected with it.

    Args:
        conn: A transaction.
        audience: Of the CRM door, not deleted.
        now_s: When.

    Returns:
        The files to be deleted when the transaction is through.
    """
    await audiences.set_state(conn, audience, AudienceState.DELETED, now_s=now_s)
    await conn.execute(update(_audiences).where(_audiences.c.id == audience.id).values(name=""))
    of_this = crm_audiences.c.audience_id == audience.id
    await conn.execute(update(crm_audiences).where(of_this).values(description=None))
    for table in (activations, uploads):
        await conn.execute(delete(table).where(table.c.audience_id == audience.id))
    job_ids = set(await crm_uploads.job_ids(conn, audience.id))
    for job in await jobs.unfinished_of(conn, audience.owner_id):
        if all(
            s.audience_id == audience.id if s.audience_id else s.segment_id == audience.segment_id
            for s in job.order.segments
        ):
            await jobs.rewrite(conn, failed(job, Stopped(StopReason.AUDIENCE_DELETED), now_s))
            job_ids.add(job.id)
    blobs = await forget_in_jobs(conn, audience.id, job_ids)
    await crm_uploads.forget(conn, audience.id)
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
        job = await jobs.job(conn, job_id)
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


async def tidy(conn: AsyncConnection, job: Job) -> list[str]:
    """
    Have a job that has just ended keep nothing of this door's that it need not.

    That is: nothing of audiences that were deleted while it was at work, and no
    file of which nothing was written.

    Returns:
        The files to be deleted when the transaction is through.
    """
    named = await crm_audiences_of.named(conn, job.owner_id, job.order)
    if not named or job.state in UNFINISHED:
        return []
    blobs = []
    for audience_id, state in (await crm_audiences_of.states(conn, named)).items():
        if state is AudienceState.DELETED:
            blobs += await forget_in_jobs(conn, audience_id, [job.id])
    if job.report.delivered_blob:
        blobs.append(job.report.delivered_blob)
    is_of_use = job.state is JobState.DONE or job.checkpoint.next_part
    if not is_of_use and job.blob not in (*blobs, NO_FILE):
        await jobs.rewrite(conn, replace(job, blob=NO_FILE))
        blobs.append(job.blob)
    return blobs
