"""
Keeps of a delivered file only the ids that were read from it, 16 bytes each.

The store can be rebuilt from these, byte for byte. All other content disappears: plain addresses
sent by mistake, postal addresses, other columns. The job keeps the original's name, size,
announcement and digest.

The copy is complete before the job refers to it; then the original is deleted. If the loader is
killed in between, `Report.delivered_blob` names the original for the next. External audiences' runs
only ever have ids.

Before that, and if a job ends without a write:

    the job                        its original
    waits, is held, or is running  stays 7 days at most, then becomes ids
    failed by a fault of ours      is deleted 7 days after its arrival
    was refused for its metadata   is deleted `SEGMENTS_REFUSED_FILE_H` after the answer; until
                                   then corrected metadata find it
    was refused for its content,   is deleted with the answer
    or by an operator
    failed after a write           becomes the ids that were read from it
"""

from collections.abc import Awaitable, Callable, Iterator

from msgspec.structs import replace

from segments.files.blobs import Blobs, delivery_name
from segments.files.chunks import in_thread
from segments.ingest.file_steps import Running
from segments.ingest.in_thread import Abandoned, awaited, nobody_asks
from segments.ingest.spool import Spool
from segments.model.day import S_PER_DAY
from segments.model.job import Job
from segments.model.stop_reason import OF_CONTENT, OURS, StopReason

LOOK_EVERY_S = 3600.0
"""How often a loader looks for originals that are due."""

AT_MOST_S = 7.0 * S_PER_DAY - LOOK_EVERY_S
"""The age at which the next look removes an original, whatever the job's state."""

_LATE_S = AT_MOST_S - S_PER_DAY
"""The age at which a job becomes ids before it writes: no file takes a day."""

_ROWS_AT_ONCE = 256 << 10


def has_original(job: Job) -> bool:
    """Tell whether a job's file may hold more than ids."""
    return not job.report.is_ids and not job.order.is_of_marked_ids


def is_late(job: Job, now_s: float) -> bool:
    """Tell whether a job that begins to write now may outlast its original's time."""
    return now_s >= job.created_at_s + _LATE_S


def goes_at_s(job: Job, refused_file_s: float) -> float:
    """
    Return when to delete the file of a job without a write, which no rebuild reads.
    """
    ended_at_s = job.created_at_s if job.finished_at_s is None else job.finished_at_s
    is_for_nobody = job.stop in OF_CONTENT or job.stop is StopReason.NOT_RELEASED
    if is_for_nobody or not has_original(job):
        return ended_at_s
    if job.stop is None or job.stop in OURS:
        return max(ended_at_s, job.created_at_s + AT_MOST_S)
    return ended_at_s + refused_file_s


class _Copying:
    def __init__(self, spool: Spool) -> None:
        self.is_abandoned = False
        self._spool = spool

    def chunks(self) -> Iterator[bytes]:
        for batch in self._spool.batches(0, _ROWS_AT_ONCE):
            if self.is_abandoned:
                raise Abandoned
            yield batch.ids.tobytes()


async def keep_ids_only(
    blobs: Blobs, job: Job, spool: Spool, still_here: Callable[[], Awaitable[None]] = nobody_asks
) -> Job:
    """
    Write the copy that replaces a file, and return the job with it.

    `still_here` is called during the copy, which may outlast a lease.
    """
    name, copying = delivery_name(job.partner_id), _Copying(spool)
    await awaited(copying, blobs.put(name, in_thread(copying.chunks())), still_here)
    return replace(job, blob=name, report=replace(job.report, is_ids=True, delivered_blob=job.blob))


async def become_ids(running: Running, blobs: Blobs, spool: Spool) -> None:
    """Reduce a running job's file to its ids; may be repeated."""
    if has_original(running.job):
        now = await keep_ids_only(blobs, running.job, spool, running.become)
        await running.become(blob=now.blob, report=now.report)
    # A loader that was stopped in between leaves this to the next.
    report = running.job.report
    if report.delivered_blob:
        await blobs.delete(report.delivered_blob)
        await running.become(report=replace(report, delivered_blob=""))
