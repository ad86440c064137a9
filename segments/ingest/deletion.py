"""
Reduces the data of a deleted audience's jobs to the least possible.

    unfinished jobs fail; a running job, or one that also changes other audiences, is treated
                    at its end (`tidy`)
    finished jobs   no longer change the audience, so a rebuild does not write it; without
                    other changes, a job loses its file and its bad lines

A file is marked as retired in the transaction that removes it from its job, and deleted afterwards
by the caller or the next scrub. The sweep after a deletion removes the memberships from the store;
no bid shows them meanwhile.
"""

from collections.abc import Iterable, Mapping

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.files.blobs import Blobs
from segments.ingest.ids_only import goes_at_s
from segments.ledger import job_audiences, jobs
from segments.ledger.privacy import late_opt_outs, scrubs
from segments.model.audience import Audience, AudienceState
from segments.model.job import NO_FILE, UNFINISHED, Job, failed
from segments.model.stop_reason import OURS, Stopped, StopReason


async def end_jobs(
    conn: AsyncConnection, audience: Audience, job_ids: Iterable[int], *, now_s: float
) -> list[str]:
    """
    Fail unfinished jobs that only change a deleted audience; forget it in finished ones.

    `conn` is the deletion's transaction, `audience` as before it. Returns the files to delete after
    it.
    """
    over = set(job_ids)
    for seen in await jobs.unfinished_of(conn, audience.owner_id):
        job = await jobs.locked(conn, seen.id)
        if job is None or job.state not in UNFINISHED:
            continue
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
    Remove an audience from finished jobs; return the files of jobs that now change nothing.
    """
    blobs = []
    for job_id in sorted(job_ids):
        job = await jobs.locked(conn, job_id)
        if job is None or job.state in UNFINISHED:
            continue
        left = tuple(p for p in job.report.segments if p.audience_id not in (audience_id, None))
        tallies = {a: tally for a, tally in job.report.tallies.items() if a != audience_id}
        forgetful = replace(job, report=replace(job.report, segments=left, tallies=tallies))
        await job_audiences.forget(conn, job_id, audience_id)
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
    Remove all that a finished job need not keep; return the files to delete after the transaction.

    That is: all about audiences deleted during the job, and a file without a write, unless it may
    be of use: see `segments.ingest.ids_only`. For the audiences of `states`, which must leave no
    trace once deleted, only corrected metadata are such a use.
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
    """Delete retired files."""
    for name in names:
        await blobs.delete(name)
        async with ledger.begin() as conn:
            await scrubs.deleted(conn, name)
