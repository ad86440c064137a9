"""
What is kept of a delivered file: the ids that were read from it, 16 bytes each.

The store can be rebuilt from these, byte for byte. What is no usable record goes with the
delivered file: plain addresses that came by mistake, postal addresses, whatever stood in
other columns. Of the file as it came the job keeps its name, its size and what it was
announced by; its digest is in the job's fingerprint.

The copy is written whole before the job names it, and the original is deleted when it
does. Was the loader killed in between, `Report.delivered_blob` tells whoever takes the job
up. A run of an external audience never has more than ids:
`segments.ingest.external_audience.delta`.
"""

from msgspec.structs import replace

from segments.files.blobs import Blobs, delivery_name
from segments.ingest.file_steps import Running
from segments.ingest.spool import Spool
from segments.model.job import Job

_ROWS_AT_ONCE = 256 << 10


def has_original(job: Job) -> bool:
    """Tell whether the file that is kept of a job may hold more than ids."""
    return not job.report.is_ids and not job.order.is_of_marked_ids


async def keep_ids_only(blobs: Blobs, job: Job, spool: Spool) -> Job:
    """Write the copy that is kept in a file's place; return the job with that."""
    name = delivery_name(job.partner_id)
    await blobs.put(name, (batch.ids.tobytes() for batch in spool.batches(0, _ROWS_AT_ONCE)))
    return replace(job, blob=name, report=replace(job.report, is_ids=True, delivered_blob=job.blob))


async def become_ids(running: Running, blobs: Blobs, spool: Spool) -> None:
    """Keep of a running job's file its ids and nothing else, once or again."""
    if has_original(running.job):
        now = await keep_ids_only(blobs, running.job, spool)
        await running.become(blob=now.blob, report=now.report)
    # Whoever was stopped in between left it to whoever takes the job up again.
    report = running.job.report
    if report.delivered_blob:
        await blobs.delete(report.delivered_blob)
        await running.become(report=replace(report, delivered_blob=""))
