"""
Is this the file that was described?

Its digest and its number of records are compared with what the order says of them; of a
file that was scrubbed since, with what the scrub says.
"""

import hashlib
from collections.abc import Iterable

from msgspec.structs import replace

from segments.model.job import Job
from segments.model.order import Order
from segments.model.stop_reason import Stopped, StopReason

SCRUBBED_DIGEST = "md5"


def check_digest(order: Order, blocks: Iterable[bytes]) -> bool:
    """Tell whether these bytes are the ones that the order describes."""
    if order.digest is None or order.digest_algorithm is None:
        return True
    digest = hashlib.new(order.digest_algorithm, usedforsecurity=False)
    for block in blocks:
        digest.update(block)
    return digest.hexdigest() == order.digest


def check_records(order: Order, rows: int, header_rows: int, valid: int) -> None:
    """
    Compare what the file turned out to hold with what was announced.

    Raises:
        Stopped: NO_VALID_RECORD or RECORD_COUNT_MISMATCH.
    """
    # Nothing new since the last run is no fault; but nobody replaces everybody.
    may_be_empty = order.is_of_marked_ids and not order.replaces
    if not valid and not (may_be_empty and not rows):
        none = f"none of {rows} records has a usable id" if rows else "there is no record in it"
        only = ", but for the header" if header_rows and not rows else ""
        raise Stopped(StopReason.NO_VALID_RECORD, none + only)
    # Some exporters count the title of the column.
    if order.records is not None and order.records not in (rows, rows + header_rows):
        raise Stopped(
            StopReason.RECORD_COUNT_MISMATCH, f"{rows} records, announced were {order.records}"
        )


def order_as_kept(job: Job) -> Order:
    """Return what a job asks for, of the file as it is kept: scrubbed, it has another digest."""
    if job.scrubbed is None:
        return job.order
    return replace(
        job.order,
        digest_algorithm=SCRUBBED_DIGEST,
        digest=job.scrubbed.digest,
        records=None,
        hash_type=job.scrubbed.hash_type,
    )
