"""
Removes members that a replacing file does not name: the second half of a replacement.

    merge     all persons in the file are added or renewed
    retain    bucket by bucket: a member that is not in the file is removed

In this order, no remaining member is ever missing. Memory holds only the names of one part. All
buckets are visited, also those without a name in the file; a second visit changes nothing.

Discarded: expiry days by replacement, so that old memberships run out: two replacements on a day
would be the same.
"""

from collections.abc import AsyncIterator
from typing import NamedTuple

import numpy as np

from segments.ingest.spool import PART_BITS, PARTS, Spool
from segments.model.identity import ID_BYTES
from segments.model.stop_reason import Stopped, StopReason
from segments.store.calls_of_array import calls_of_names
from segments.store.name_order import name_order
from segments.store.reader import Meta
from segments.store.writer import Writer

MAX_NAMES = 4 << 20
"""The most in a part, of 4096; for evenly spread ids, 17 billion in all."""

_ROWS_AT_ONCE = 256 << 10
_BUCKETS_A_STEP = 512


class Retained(NamedTuple):
    """A replacement's progress; all parts below `next_part` are done."""

    next_part: int
    removed: int


async def replace_members(
    spool: Spool,
    first_part: int,
    writer: Writer,
    meta: Meta,
    audience_id: int,
    *,
    end_part: int = PARTS,
) -> AsyncIterator[Retained]:
    """
    Remove an audience's members that a spool does not name, in a range of parts.

    Raises:
        Stopped: UNREADABLE_FILE: too many ids have a common prefix, as hashes never do.
        segments.model.record.CorruptRecord: A record in the store can't be read.
        redis.exceptions.RedisError: The store failed; try again later.
    """
    bits = min(PART_BITS, meta.bucket_bits)
    parts, buckets = PARTS >> bits, (1 << meta.bucket_bits) >> bits
    removed = looked_at = 0
    for part in range(first_part, end_part, parts):
        named = _named(spool, part, part + parts, meta.bucket_bits)
        first = (part // parts) * buckets
        for at in range(first, first + buckets, _BUCKETS_A_STEP):
            step = range(at, min(at + _BUCKETS_A_STEP, first + buckets))
            removed += await writer.retain(
                [(bucket, named.get(bucket, b"")) for bucket in step], audience_id
            )
        looked_at += buckets
        if looked_at >= _BUCKETS_A_STEP or part + parts == end_part:
            yield Retained(part + parts, removed)
            removed = looked_at = 0


def _named(spool: Spool, start: int, end: int, bucket_bits: int) -> dict[int, bytes]:
    """Return the fields of all ids of some parts, by bucket."""
    ids = np.empty((0, ID_BYTES), np.uint8)
    names = name_order(ids, bucket_bits)
    for batch in spool.batches(start, _ROWS_AT_ONCE, end):
        ids = np.concatenate((ids[names.order[names.is_first]], batch.ids))
        names = name_order(ids, bucket_bits)
        if np.count_nonzero(names.is_first) > MAX_NAMES:
            raise Stopped(StopReason.UNREADABLE_FILE, "ids that begin alike, as no hashes do")
    if not len(ids):
        return {}
    bucket_to_fields: dict[int, bytes] = {}
    for call in calls_of_names(names):
        bucket_to_fields[call.bucket] = bucket_to_fields.get(call.bucket, b"") + call.fields
    return bucket_to_fields
