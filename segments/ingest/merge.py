"""
Writes a job's spool into the store, batch by batch: the second half of a job.

A job stops and resumes only between batches, so a batch must outlast neither a lease nor an
operator's patience: `PAIRS_PER_BATCH` pairs of id and audience take about a second.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple

from segments.ingest.spool import Spool
from segments.model.record import Change, Tally
from segments.store.writer import Writer

PAIRS_PER_BATCH = 256 << 10


class Merged(NamedTuple):
    """A batch's result; all parts of the spool below `next_part` are in the store."""

    next_part: int
    rows: int
    duplicates: int  # rows whose id occurred earlier in the batch
    tallies: Mapping[int, Tally]  # by audience


async def merge(
    spool: Spool,
    first_part: int,
    writer: Writer,
    changes: Sequence[Change],
    pairs_per_batch: int = PAIRS_PER_BATCH,
) -> AsyncIterator[Merged]:
    """
    Apply the changes to a spool's ids from `first_part` on.

    Raises:
        segments.model.record.CorruptRecord: A record in the store can't be read.
        redis.exceptions.RedisError: The store failed; try again later.
    """
    if not changes:
        return
    max_rows = max(1, pairs_per_batch // len(changes))
    for batch in spool.batches(first_part, max_rows):
        tallies = await writer.merge_each(batch.ids, changes)
        rows = len(batch.ids)
        # Each distinct id meets each change once, whatever the result.
        duplicates = rows - sum(tallies[0])
        yield Merged(batch.next_part, rows, duplicates, by_audience(changes, tallies))


def by_audience(changes: Sequence[Change], tallies: Sequence[Tally]) -> dict[int, Tally]:
    """Return the tallies of changes by audience; an audience may have several."""
    added_up: dict[int, Tally] = {}
    for change, tally in zip(changes, tallies, strict=True):
        added_up[change.audience_id] = added_up.get(change.audience_id, Tally()) + tally
    return added_up
