"""
Deletes an audience of the CRM door, and its data in ledger and blobs.

    audience       deleted; its name and description are blanked
    activations    deleted
    uploads        deleted: counts of files, and URLs for future files
    jobs           see `segments.ingest.deletion`
"""

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ingest.deletion import end_jobs
from segments.ledger import audiences
from segments.ledger.crm_audience import uploads as crm_uploads
from segments.ledger.tables import crm_audiences
from segments.model.audience import Audience


async def delete_audience(conn: AsyncConnection, audience: Audience, *, now_s: float) -> list[str]:
    """
    Delete an audience and its data in a transaction; return the files to delete after it.
    """
    await audiences.delete_with_name(conn, audience, now_s=now_s)
    of_this = crm_audiences.c.audience_id == audience.id
    await conn.execute(update(crm_audiences).where(of_this).values(description=None))
    blobs = await end_jobs(
        conn, audience, await crm_uploads.job_ids(conn, audience.id), now_s=now_s
    )
    await crm_uploads.forget(conn, audience.id)
    return blobs
