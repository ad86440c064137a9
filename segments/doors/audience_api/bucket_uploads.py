"""
Jobs for files that partners upload straight into the bucket.

    uploads/<key>        the target of the bucket's presigned URL
    deliveries/...       the copy that the job refers to

A bucket's URL works repeatedly until it expires, so the file is copied before anything refers to
it, and a second file under its key is deleted unread. Of replicas that find a file, the first makes
the job; the others delete their copies.
"""

import asyncio
import logging
import time

from obstore.exceptions import BaseError

from segments.doors.rest.services import Services
from segments.files.blobs import UPLOADS, delivery_name
from segments.ingest.uploaded_file import arrived
from segments.ledger import audiences, quotas, uploads
from segments.ledger.database.engine import reading
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.ledger.uploads import UsedBefore
from segments.model.quota import OverQuota
from segments.runtime.pauses import wait_or_stop

_log = logging.getLogger(__name__)

EVERY_S = 2.0
LOOK_ANYWAY_EVERY_S = 3600.0
LATE_S = 3600.0
"""The longest upload that began just before its URL expired."""


async def watch(services: Services, max_bytes: int, stopping: asyncio.Event) -> None:
    """Look for files until stopped; retry while the bucket is away."""
    was_well = True
    look_at_all_s = 0.0
    while not stopping.is_set():
        is_due = services.clock_s() >= look_at_all_s
        try:
            await notice(services, max_bytes, look_anyway=is_due)
            was_well = True
            if is_due:
                look_at_all_s = services.clock_s() + LOOK_ANYWAY_EVERY_S
        except (BaseError, *LEDGER_FAILURES) as error:
            if was_well:
                _log.warning("uploads can't be looked for (%s)", type(error).__name__)
            was_well = False
        await wait_or_stop(stopping, EVERY_S)


async def notice(services: Services, max_bytes: int, *, look_anyway: bool = False) -> int:
    """
    Make jobs of new files, and return how many.

    Files over `max_bytes` are deleted. `look_anyway`: even if no upload is awaited: the bucket may
    have accepted a file while no replica ran.
    """
    async with reading(services.ledger) as conn:
        awaited = await uploads.is_any_awaited(conn, services.now_s() - LATE_S)
    if not awaited and not look_anyway:
        return 0
    names = await services.blobs.names(UPLOADS)
    return sum([await _take(services, name, max_bytes) for name in names])


async def _take(services: Services, name: str, max_bytes: int) -> bool:
    async with reading(services.ledger) as conn:
        upload = await uploads.upload_of_key(conn, name.rpartition("/")[2])
        if upload is None:
            return False  # not an upload of ours
        audience = await audiences.audience(conn, upload.audience_id)
    found = await services.blobs.find(name)
    if found is None:
        return False
    is_too_large = found.size_bytes > max_bytes
    if upload.job_id is not None or is_too_large:
        await services.blobs.delete(name)
        services.metrics.bucket_file("too_large" if is_too_large else "put_twice")
        return False
    try:
        async with reading(services.ledger) as conn:
            await quotas.check_delivery(
                conn, audience.partner_id, found.size_bytes, services.now_s()
            )
    except OverQuota:
        return False  # the file stays, and is tried again
    blob = delivery_name(audience.partner_id)
    started_at_s = time.monotonic()
    try:
        await services.blobs.copy(name, blob)
    except FileNotFoundError:
        return False  # another replica has made a job of it
    try:
        async with services.ledger.begin() as conn:
            await arrived(
                conn,
                upload,
                audience,
                blob=blob,
                sha256=f"etag:{found.e_tag}"[:64],
                size_bytes=found.size_bytes,
                now_s=services.now_s(),
            )
    except (UsedBefore, OverQuota):
        await services.blobs.delete(blob)
        return False
    await services.blobs.delete(name)
    services.metrics.bucket_file("taken")
    _log.info(
        "upload of %d bytes noticed, copied in %.1f s",
        found.size_bytes,
        time.monotonic() - started_at_s,
    )
    return True
