"""
Deletes an external audience, and its data in ledger and blobs.

    audience       deleted; its name and the data of its creation are blanked
    activations    deleted
    uploads        deleted: URLs for future files
    runs           number and times stay, for the guard rails; the names of the customer's
                   files are deleted
    answers        deleted, if kept for an `Idempotency-Key` and naming the audience
    jobs           see `segments.ingest.deletion`
"""

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ingest.deletion import end_jobs
from segments.ledger import audiences, idempotency_keys
from segments.ledger.external_audience import audiences as external_audiences
from segments.ledger.external_audience import runs as external_runs
from segments.ledger.external_audience.audiences import ExternalAudience
from segments.ledger.revision import lock_catalog


async def delete_audience(
    conn: AsyncConnection, external: ExternalAudience, *, user_id: str, now_s: float
) -> list[str]:
    """
    Delete an external audience and its data in a transaction; return the files to delete after it.
    """
    assert external.audience_id is not None, "it is there"
    await lock_catalog(conn)
    audience = await audiences.audience(conn, external.audience_id)
    await external_audiences.delete(conn, external, user_id=user_id, now_s=now_s)
    for public_id in (external.public_id, external.operation_id):
        await idempotency_keys.forget_naming(conn, public_id)
    job_ids = await external_runs.job_ids(conn, external)
    await external_runs.forget_files(conn, external)
    return await end_jobs(conn, audience, job_ids, now_s=now_s)
