"""
Converts or deletes original delivered files when their time is up.

`segments.ingest.ids_only` defines that time. A job's end reduces its file to ids, or deletes a
refused one. The rest is done here: refused files that are due now, jobs that broke off or are held,
and earlier versions' originals. For jobs that wait see `segments.loader.long_waits`.

A loader runs this at its start and every hour, with a transaction a job. A rebuilt store stays the
same, byte for byte: a broken-off job is replayed to its checkpoint, and its ids keep their parts.
"""

import logging
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.blobs import Blobs
from segments.ingest.deletion import delete_files
from segments.ingest.ids_only import AT_MOST_S, goes_at_s, has_original, keep_ids_only
from segments.ingest.spool import Spool
from segments.ingest.tools import FileTools
from segments.ledger import jobs
from segments.ledger.database.engine import reading
from segments.ledger.privacy import scrubs
from segments.model.job import NO_FILE, Job, JobState
from segments.model.stop_reason import Stopped, StopReason
from segments.upkeep.replay import read_again

_log = logging.getLogger(__name__)

_JOBS_AT_ONCE = 200


class Seen(NamedTuple):
    """The results of a run."""

    became_ids: int = 0
    deleted: int = 0
    unreadable: int = 0  # to be tried again


async def see_to_originals(
    tools: FileTools, refused_file_s: float, show: Callable[[Seen], None] = lambda _: None
) -> Seen:
    """
    Convert or delete every original that is due.

    `show` is called with the progress, and may end the run by an exception.

    Raises:
        segments.ledger.database.errors.LedgerAway: Try again; likewise after errors of obstore.
    """
    seen = Seen()
    async for job in jobs_with_originals(tools.ledger):
        seen = await _see_to(tools, job, refused_file_s, seen)
        show(seen)
    return seen


async def jobs_with_originals(ledger: AsyncEngine) -> AsyncIterator[Job]:
    """Yield jobs that may keep an unnecessary original; each page is current."""
    after_id = 0
    while True:
        async with reading(ledger) as conn:
            page = await jobs.with_originals(conn, after_id, _JOBS_AT_ONCE)
        for job in page:
            yield job
        if not page:
            return
        after_id = page[-1].id


async def _see_to(tools: FileTools, job: Job, refused_file_s: float, seen: Seen) -> Seen:
    if job.has_written_nothing:
        if tools.now_s() < goes_at_s(job, refused_file_s):
            return seen
        is_done = await _put_in_place(tools.ledger, tools.blobs, job, replace(job, blob=NO_FILE))
        return seen._replace(deleted=seen.deleted + is_done)
    if not has_original(job) or not _is_due(job, tools.now_s()):
        return seen
    try:
        with Spool(tools.spool_dir, reserve_bytes=tools.reserve_bytes) as spool:
            await read_again(job, tools, spool)
            now = await keep_ids_only(tools.blobs, job, spool)
    except (Stopped, FileNotFoundError) as error:
        reason = error.reason if isinstance(error, Stopped) else StopReason.FILE_NOT_FOUND
        _log.error("the file of job %d can't be read: %s", job.id, reason)
        return seen._replace(unreadable=seen.unreadable + 1)
    now = replace(now, report=replace(now.report, delivered_blob=""))
    is_done = await _put_in_place(tools.ledger, tools.blobs, job, now)
    return seen._replace(became_ids=seen.became_ids + is_done)


def _is_due(job: Job, now_s: float) -> bool:
    if job.state is JobState.HELD:
        return now_s >= job.created_at_s + AT_MOST_S
    return job.state in (JobState.DONE, JobState.FAILED)


async def _put_in_place(ledger: AsyncEngine, blobs: Blobs, was: Job, now: Job) -> bool:
    async with ledger.begin() as conn:
        is_done = await jobs.replace_original(conn, was, now)
        if is_done:
            await scrubs.retire(conn, [was.blob])
    if is_done:
        await delete_files(ledger, blobs, [was.blob])
    elif now.blob != NO_FILE:
        await blobs.delete(now.blob)
    return is_done
