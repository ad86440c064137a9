"""
Ids that were taken out of a customer's files, each marked as coming or leaving.

    16 bytes     "rtb-segments ids"
    then         { bytes 1 to 15 of an id, byte 16: 0 comes, 1 leaves }, in the order of the rows

This is what is kept of a run for as long as the store may have to be rebuilt:
no address and no column of the customer's, only the ids. The store knows an id
by its first twelve bytes (`segments.store.keys`), so the last can carry the mark,
and ids go through the same spool as those of any other file.

Of what is said of one id in one run the last holds, as it would if each row were
a run of its own.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from segments.ingest.merge import PAIRS_PER_BATCH, Merged
from segments.ingest.parse import Ids
from segments.ingest.spool import Spool
from segments.ingest.store_names import names_of
from segments.model.identity import ID_BYTES, Id
from segments.model.record import Change, Tally
from segments.model.stop_reason import Stopped, StopReason
from segments.store.writer import Writer

if TYPE_CHECKING:
    from segments.model.job import BadLine

HEADER = b"rtb-segments ids"
_COMES, _LEAVES = b"\x00", b"\x01"


def delta_of(ids: Iterable[Id], *, leaves: bool) -> bytes:
    """Write ids."""
    mark = _LEAVES if leaves else _COMES
    return b"".join(id_[:-1] + mark for id_ in ids)


class DeltaParser:
    """Reads what `delta_of` wrote, behind its header; used as `segments.ingest.parse.Parser` is."""

    hash_type: str | None = None
    header_rows = 0
    header_line = 0
    header = ""

    def __init__(self, bad: int) -> None:
        """
        Args:
            bad: Rows of the customer's that became no id.
        """
        self.valid = 0
        self.bad = bad
        self.samples: list[BadLine] = []
        self._rest = b""
        self._is_begun = False

    @property
    def rows(self) -> int:
        """Ids, and rows that became none."""
        return self.valid + self.bad

    @property
    def well_formed(self) -> int:
        """Ids."""
        return self.valid

    def feed(self, block: bytes) -> Ids:
        """
        Take the next bytes; return the ids that they complete.

        Raises:
            Stopped: UNREADABLE_FILE: it is no such file.
        """
        block = self._rest + block
        if not self._is_begun:
            if len(block) < len(HEADER):
                self._rest = block
                return _ids(b"")
            if not block.startswith(HEADER):
                raise Stopped(StopReason.UNREADABLE_FILE, "not a file of marked ids")
            block, self._is_begun = block[len(HEADER) :], True
        whole = len(block) - len(block) % ID_BYTES
        self._rest = block[whole:]
        ids = _ids(block[:whole])
        self.valid += len(ids)
        return ids

    def finish(self) -> Ids:
        """
        Take the end of the file.

        Raises:
            Stopped: UNREADABLE_FILE: it is cut short.
        """
        if self._rest or not self._is_begun:
            raise Stopped(StopReason.UNREADABLE_FILE, "a file of marked ids that is cut short")
        return _ids(b"")


def coming_and_leaving(ids: Ids, bucket_bits: int) -> tuple[Ids, Ids]:
    """Return who comes and who leaves by what is said last of each; each id once."""
    if not len(ids):
        return ids, ids
    # Of equal names `unique` gives the first: so from the end.
    backwards = ids[::-1]
    _, first = np.unique(names_of(backwards, bucket_bits), return_index=True)
    last = backwards[first]
    leaves = last[:, -1] == _LEAVES[0]
    return last[~leaves], last[leaves]


async def merge_marked(
    spool: Spool,
    first_part: int,
    writer: Writer,
    changes: Sequence[Change],
    pairs_per_batch: int = PAIRS_PER_BATCH,
) -> AsyncIterator[Merged]:
    """
    Add who comes to the audiences of some changes, and take away who leaves.

    Args:
        spool: Of marked ids.
        first_part: All before it were merged.
        writer: Of the store.
        changes: Additions alone.
        pairs_per_batch: As of `segments.ingest.merge.merge`.

    Raises:
        segments.model.record.CorruptRecord, redis.exceptions.RedisError: As of `merge`.
    """
    removals = removals_of(changes)
    max_rows = max(1, pairs_per_batch // max(1, len(changes)))
    for batch in spool.batches(first_part, max_rows):
        coming, leaving = coming_and_leaving(batch.ids, writer.bucket_bits)
        tally = await writer.merge(coming, changes) if len(coming) else Tally()
        if len(leaving):
            tally += await writer.merge(leaving, removals)
        rows = len(batch.ids)
        yield Merged(batch.next_part, rows, rows - len(coming) - len(leaving), tally)


def removals_of(changes: Sequence[Change]) -> list[Change]:
    """Return what takes away what some changes add."""
    return [Change(change.audience_id, is_add=False) for change in changes]


def _ids(raw: bytes) -> Ids:
    return np.frombuffer(raw, np.uint8).reshape(-1, ID_BYTES)
