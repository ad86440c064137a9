"""
Turns a LiveAudience delivery into a job, for both the folder and the command line's `load`.
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
    Accept a delivery; its metadata file is kept for the `.status`.

    The partner may know `transaction_id` already.

    Returns:
        The delivery's job: see `segments.ingest.accept.accept`.

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
