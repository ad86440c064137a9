"""
The second half of a job: from the spool into the store, batch by batch.

After each batch the job may stop and go on from there, so a batch is small
enough that a lease or a person's patience outlasts it: `PAIRS_PER_BATCH` pairs
of id and audience are about a second's work.
"""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from segments.ingest.spool import Spool
from segments.model.record import Change, Tally
from segments.store.writer import Writer

PAIRS_PER_BATCH = 256 << 10


class Merged(NamedTuple):
    """What one batch came to; all parts of the spool below `next_part` are in the store."""

    next_part: int
    rows: int
    duplicates: int  # rows whose id stood in the batch before
    tally: Tally


async def merge(
    spool: Spool,
    first_part: int,
    writer: Writer,
    changes: Sequence[Change],
    pairs_per_batch: int = PAIRS_PER_BATCH,
) -> AsyncIterator[Merged]:
    """
    Apply the changes to all ids of a spool, from a part on.

    Raises:
        segments.model.record.CorruptRecord: A record in the store can't be read.
        redis.exceptions.RedisError: The store did not do it; try again later.
    """
    if not changes:
        return
    max_rows = max(1, pairs_per_batch // len(changes))
    for batch in spool.batches(first_part, max_rows):
        tally = await writer.merge(batch.ids, changes)
        rows = len(batch.ids)
        # Each distinct id meets each change once, whatever comes of it.
        yield Merged(batch.next_part, rows, rows - sum(tally) // len(changes), tally)
