"""
A file of the Audience API that has arrived: a job, named in its upload's row.

Both in one transaction, so there is no job without an upload and no upload with
two jobs; the blob is there before them. Whoever comes second is told so, and
takes its blob away again.
"""

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger import jobs, uploads
from segments.ledger.uploads import Upload
from segments.model.audience import Audience
from segments.model.job import Job
from segments.model.order import Order, SegmentOrder

DOOR = "audience api"


async def arrived(
    conn: AsyncConnection,
    upload: Upload,
    audience: Audience,
    *,
    blob: str,
    sha256: str,
    now_s: float,
) -> Job:
    """
    Make the job of an upload whose file is in the blob store.

    Args:
        conn: A transaction; to be given up if this raises.
        upload: Has no job yet.
        audience: The upload's.
        blob: Where the file is.
        sha256: Of the file; or whatever else tells it from others.
        now_s: When.

    Raises:
        segments.ledger.uploads.UsedBefore: It has a job.
    """
    segment = SegmentOrder(audience.segment_id, "", upload.action, audience.id)
    job = await jobs.submit(
        conn,
        door=DOOR,
        partner_id=audience.partner_id,
        owner_id=audience.owner_id,
        order=Order((segment,), hash_type=upload.hash_type),
        # No two files are the same delivery: what is added, removed and added again is in.
        request_id=upload.request_id,
        blob=blob,
        sha256=sha256,
        file_name=upload.file_name,
        now_s=now_s,
    )
    await uploads.arrived(conn, upload, job.id)
    return job
