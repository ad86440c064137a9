import uuid

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.acts.trail import By, note
from segments.files.blobs import Stored
from segments.ledger import accounts, jobs
from segments.model.audience import Audience
from segments.model.job import Job
from segments.model.order import Order, SegmentAction, SegmentOrder

DOOR = "console"


async def deliver(
    conn: AsyncConnection,
    by: By,
    audience: Audience,
    action: SegmentAction,
    *,
    blob: str,
    stored: Stored,
    file_name: str,
) -> Job:
    """
    Submit a file that is in the blob store, and changes one audience.

    Raises:
        segments.model.quota.OverQuota: The partner may deliver no more now.
    """
    segment = SegmentOrder(audience.segment_id, audience.name, action, audience.id)
    job = await jobs.submit(
        conn,
        door=DOOR,
        partner_id=audience.partner_id,
        owner_id=audience.owner_id,
        order=Order((segment,)),
        # No two files are the same delivery: an id can be added, removed and added again.
        metadata={"console": uuid.uuid4().hex},
        blob=blob,
        sha256=stored.sha256,
        file_name=file_name,
        now_s=by.now_s,
        size_bytes=stored.size_bytes,
    )
    owner = await accounts.account(conn, audience.owner_id)
    detail = {"transaction": job.transaction_id, "action": action.value, "file": file_name}
    await note(conn, by, "upload", f"audience {audience.id}", scope=owner, detail=detail)
    return job
