"""
Checks that a file matches its order's digest and number of records; after a scrub, the scrub's.
"""

import hashlib
from collections.abc import Iterable

from msgspec.structs import replace

from segments.model.job import Job
from segments.model.order import Order
from segments.model.stop_reason import Stopped, StopReason

SCRUBBED_DIGEST = "md5"


def check_digest(order: Order, blocks: Iterable[bytes]) -> bool:
    """Tell whether bytes have the order's digest, if any."""
    if order.digest is None or order.digest_algorithm is None:
        return True
    digest = hashlib.new(order.digest_algorithm, usedforsecurity=False)
    for block in blocks:
        digest.update(block)
    return digest.hexdigest() == order.digest


def check_records(order: Order, rows: int, header_rows: int, valid: int) -> None:
    """
    Compare a file's records with its announcement.

    Raises:
        Stopped: NO_VALID_RECORD or RECORD_COUNT_MISMATCH.
    """
    # A run may have no news; but an empty file must not replace an audience.
    may_be_empty = order.is_of_marked_ids and not order.replaces
    if not valid and not (may_be_empty and not rows):
        none = f"none of {rows} records has a usable id" if rows else "there is no record in it"
        only = ", but for the header" if header_rows and not rows else ""
        raise Stopped(StopReason.NO_VALID_RECORD, none + only)
    # Some exporters count the column's title.
    if order.records is not None and order.records not in (rows, rows + header_rows):
        raise Stopped(
            StopReason.RECORD_COUNT_MISMATCH, f"{rows} records, announced were {order.records}"
        )


def order_as_kept(job: Job) -> Order:
    """Return a job's order for its file as kept: a scrubbed file has another digest."""
    if job.scrubbed is None:
        return job.order
    return replace(
        job.order,
        digest_algorithm=SCRUBBED_DIGEST,
        digest=job.scrubbed.digest,
        records=None,
        hash_type=job.scrubbed.hash_type,
    )
