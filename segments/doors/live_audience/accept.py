"""
A delivery of LiveAudience's becomes a job: the one place where its form becomes our order.

Both ways in end here, the folder and the command line's `load`.
"""

from collections.abc import AsyncIterable, Iterable

from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.live_audience.metadata import Metadata
from segments.files.blobs import Blobs
from segments.ingest import accept as intake
from segments.model.job import Job


async def accept(
    ledger: AsyncEngine,
    blobs: Blobs,
    metadata: Metadata,
    content: Iterable[bytes] | AsyncIterable[bytes],
    *,
    door: str,
    file_name: str,
    now_s: float,
    transaction_id: str | None = None,
) -> Job:
    """
    Take in a delivery; its metadata file is kept for the `.status` that answers it.

    Args:
        ledger: Where the job goes.
        blobs: Where the file goes.
        metadata: Whose it is and what to do with it.
        content: The file.
        door: Who takes it in.
        file_name: What the partner calls the file.
        now_s: When.
        transaction_id: What the partner was told already.

    Returns:
        Its job: see `segments.ingest.accept.accept`.

    Raises:
        Stopped: UNKNOWN_PARTNER or UNKNOWN_SUB_ID; nothing was kept.
    """
    return await intake.accept(
        ledger,
        blobs,
        metadata.order(),
        content,
        partner_id=metadata.partner_id,
        sub_id=metadata.sub_id,
        metadata=metadata.as_kept(),
        door=door,
        file_name=file_name,
        now_s=now_s,
        transaction_id=transaction_id,
    )
