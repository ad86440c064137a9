"""The delivered files that a rebuild would read, as the ledger names them."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.blobs import DELIVERIES, Blobs
from segments.ledger import jobs
from segments.ledger.database.engine import reading
from segments.model.job import NO_FILE, Job

_NAMED = 10
_JOBS_AT_ONCE = 1000


async def jobs_with_files(ledger: AsyncEngine) -> list[Job]:
    """Return the jobs whose file a rebuild would read, by number."""
    found: list[Job] = []
    last_id = 0
    while True:
        async with reading(ledger) as conn:
            page = await jobs.jobs_after(conn, last_id, _JOBS_AT_ONCE)
        if not page:
            return found
        found += [job for job in page if job.blob != NO_FILE and not job.has_written_nothing]
        last_id = page[-1].id


async def without_file(ledger: AsyncEngine, blobs: Blobs, wanted: Sequence[Job]) -> list[Job]:
    """
    Return those of the jobs whose file is gone.

    Raises:
        obstore.exceptions.BaseError: The bucket does not answer, or refuses.
        OSError: The directory can't be read.
    """
    # Jobs before files: a listed job's file was stored earlier.
    there = set(await blobs.names(DELIVERIES))
    return await still_named(ledger, [job for job in wanted if job.blob not in there])


async def still_named(ledger: AsyncEngine, seen: Sequence[Job]) -> list[Job]:
    """Return the jobs that still name the same file; a scrub may have replaced it."""
    async with reading(ledger) as conn:
        now = [await jobs.job(conn, job.id) for job in seen]
    return [
        job for job, is_now in zip(seen, now, strict=True) if is_now and is_now.blob == job.blob
    ]


def named(found: Sequence[Job]) -> str:
    """Return the first jobs and their files for a message, and the number of the others."""
    said = ", ".join(f"job {job.id} ({job.blob})" for job in found[:_NAMED])
    return said + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "")
