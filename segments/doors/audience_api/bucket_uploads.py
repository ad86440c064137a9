"""
Files that partners put straight into the bucket: noticed, and made jobs.

    uploads/<key>        where the bucket's own URL lets a file be put
    deliveries/...       where it is moved to, before it is a job

A URL of a bucket can be used as often as one likes until it expires. So the
file is copied away before anything refers to it, and what is put there a second
time is deleted unread. Replicas may notice the same file: one of them makes the
job, the others take their copy away again.
"""

import asyncio
import logging
import time

from obstore.exceptions import BaseError

from segments.doors.rest.services import Services
from segments.files.blobs import UPLOADS, delivery_name
from segments.ingest.uploaded_file import arrived
from segments.ledger import audiences, uploads
from segments.ledger.database.engine import reading
from segments.ledger.database.errors import LEDGER_FAILURES
from segments.ledger.uploads import UsedBefore
from segments.runtime.pauses import wait_or_stop

_log = logging.getLogger(__name__)

EVERY_S = 2.0
LOOK_ANYWAY_EVERY_S = 3600.0
LATE_S = 3600.0
"""How long an upload that was begun just before its URL expired may take to end."""


async def watch(services: Services, max_bytes: int, stopping: asyncio.Event) -> None:
    """Notice files until told to stop; a bucket that is away is asked again."""
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
    Make jobs of the files that have come, and return how many.

    Args:
        services: The doors'.
        max_bytes: How large a file may be; a larger one is deleted.
        look_anyway: Also where no file is awaited: the bucket has answered 200
            to whoever put one there while none of us ran.
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
            return False  # nothing that we have asked for
        audience = await audiences.audience(conn, upload.audience_id)
    found = await services.blobs.find(name)
    if found is None:
        return False
    is_too_large = found.size_bytes > max_bytes
    if upload.job_id is not None or is_too_large:
        await services.blobs.delete(name)
        services.metrics.bucket_file("too_large" if is_too_large else "put_twice")
        return False
    blob = delivery_name(audience.partner_id)
    started_at_s = time.monotonic()
    try:
        await services.blobs.copy(name, blob)
    except FileNotFoundError:
        return False  # another replica has noticed it, and is done with it
    try:
        async with services.ledger.begin() as conn:
            await arrived(
                conn,
                upload,
                audience,
                blob=blob,
                sha256=f"etag:{found.e_tag}"[:64],
                now_s=services.now_s(),
            )
    except UsedBefore:
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
