"""
Deletes an external audience, and what the ledger and the blobs keep of it.

    audience       deleted; its name, and what was said of it when it was created, are blanked
    activations    deleted
    uploads        deleted: URLs for files to come
    runs           their number and times stay, for the guard rails; the names of the
                   customer's files go
    answers        that are kept for `Idempotency-Key`s and name it go
    jobs           as `segments.ingest.deletion` says
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
    Delete an external audience and all that is connected with it.

    Args:
        conn: A transaction.
        external: That is there.
        user_id: Who deletes it.
        now_s: When.

    Returns:
        The files to be deleted when the transaction is through.
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
