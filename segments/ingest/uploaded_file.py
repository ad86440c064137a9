"""
Turns an arrived file of the Audience API into a job, which its upload's row names.

One transaction writes both, so each job has an upload, and no upload two jobs. A second caller gets
`UsedBefore`, and deletes its blob.
"""

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger import job_audiences, jobs, uploads
from segments.ledger.uploads import Upload
from segments.model.audience import Audience
from segments.model.job import Job, Planned
from segments.model.order import Order, SegmentOrder

DOOR = "audience api"


async def arrived(
    conn: AsyncConnection,
    upload: Upload,
    audience: Audience,
    *,
    blob: str,
    sha256: str,
    size_bytes: int,
    now_s: float,
) -> Job:
    """
    Create the job of an upload whose file is in the blob store, in a transaction.

    `sha256` is the file's digest, or another unique text.

    Raises:
        segments.model.quota.OverQuota: The partner may deliver no more now.
        segments.ledger.uploads.UsedBefore: The upload has a job.
    """
    segment = SegmentOrder(audience.segment_id, "", upload.action, audience.id)
    job = await jobs.submit(
        conn,
        door=DOOR,
        partner_id=audience.partner_id,
        owner_id=audience.owner_id,
        order=Order((segment,), hash_type=upload.hash_type),
        # No two files are the same delivery: an id can be added, removed and added again.
        request_id=upload.request_id,
        blob=blob,
        sha256=sha256,
        file_name=upload.file_name,
        now_s=now_s,
        size_bytes=size_bytes,
    )
    await uploads.arrived(conn, upload, job.id)
    # Known before the plan, so lists by audience have the job while it waits.
    await job_audiences.note(
        conn, job.id, [Planned(audience.segment_id, upload.action, audience.id)]
    )
    return job
