"""
Delivers a file of hashes to the ingest on behalf of the persons' partner.

As from a door, metadata names partner and order, a blob keeps the file, and a job waits for the
caller's loader.
"""

import hashlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from loadtest.population import Share
from segments.doors.live_audience.accept import accept
from segments.doors.live_audience.metadata import FileForm, Metadata, SegmentForm
from segments.files.blobs import Blobs
from segments.model.job import Job
from segments.model.order import SegmentAction


async def deliver(ledger: AsyncEngine, blobs: Blobs, hashes: Sequence[str], share: Share) -> Job:
    """
    Deliver persons' address hashes as members of segments.

    Returns:
        The job; an unfinished job of the same delivery, if any.

    Side effects: a blob and a job.
    """
    content = "".join(f"{digest}\n" for digest in hashes).encode()
    metadata = metadata_of(content, len(hashes), share)
    return await accept(
        ledger,
        blobs,
        metadata,
        [content],
        door="loadtest",
        file_name=metadata.file.name,
        now_s=time.time(),
    )


def segment_name(segment_id: str) -> str:
    """Return a segment's name."""
    return f"Segment {segment_id}"


def metadata_of(content: bytes, records: int, share: Share) -> Metadata:
    """Describe a file of hashes, each in a line, whose persons are members of segments."""
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return Metadata(
        partner_id=share.partner.public_id,
        sub_id=share.partner.sub_id,
        file=FileForm(
            name=f"{digest}.txt",
            hash="md5",
            digest=digest,
            date=datetime.now(UTC).date().isoformat(),
            records=records,
        ),
        segments=tuple(
            SegmentForm(id=id_, name=segment_name(id_), action=SegmentAction.ADD)
            for id_ in share.segment_ids
        ),
    )
