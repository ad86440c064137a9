"""
Ids from a customer's files, each marked as coming or leaving.

    16 bytes     "rtb-segments ids"
    then         { bytes 1 to 15 of an id, byte 16: 0 comes, 1 leaves }, in the order of the rows

A run keeps only this for rebuilds: no address, no other column. The store identifies an id by
its first twelve bytes (`segments.store.keys`), so the last can carry the mark, and these ids use
the spool of all files.

An id's last mark in a run counts, as if each row were a run of its own.
"""

from collections.abc import AsyncIterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from segments.ingest.merge import PAIRS_PER_BATCH, Merged, by_audience
from segments.ingest.parse import Ids
from segments.ingest.spool import Spool
from segments.model.identity import ID_BYTES, Id
from segments.model.record import Change
from segments.model.stop_reason import Stopped, StopReason
from segments.store.name_order import name_order
from segments.store.writer import Writer

if TYPE_CHECKING:
    from segments.model.job import BadLine, BadLineReason

HEADER = b"rtb-segments ids"
_LEAVES = 1


def delta_of(ids: Sequence[Sequence[Id | None]], leaves: Sequence[bool]) -> bytes:
    """Encode rows' ids, given by column, each with its row's mark; `None` is left out."""
    of_rows = list(chain.from_iterable(zip(*ids, strict=True)))
    present = [id_ for id_ in of_rows if id_ is not None]
    marked = _ids(b"".join(present)).copy()
    marks = np.repeat(np.array(leaves, np.uint8), len(ids))
    if len(present) < len(of_rows):
        marks = marks[[id_ is not None for id_ in of_rows]]
    marked[:, -1] = marks
    return marked.tobytes()


class DeltaParser:
    """Reads the output of `delta_of`, as `segments.ingest.parse.Parser` reads text."""

    hash_type: str | None = None
    header_rows = 0
    header_line = 0
    header = ""

    def __init__(self, bad: int) -> None:
        """`bad` counts the customer's rows that became no id."""
        self.valid = 0
        self.bad = bad
        self.samples: list[BadLine] = []
        self.bad_by_reason: dict[BadLineReason, int] = {}  # the run counts them without
        self._rest = b""
        self._is_begun = False

    @property
    def rows(self) -> int:
        """Ids, and rows without ids."""
        return self.valid + self.bad

    @property
    def well_formed(self) -> int:
        """The number of ids."""
        return self.valid

    def feed(self, block: bytes) -> Ids:
        """
        Take the next bytes; return complete ids.

        Raises:
            Stopped: UNREADABLE_FILE: no file of marked ids.
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
            Stopped: UNREADABLE_FILE: cut short.
        """
        if self._rest or not self._is_begun:
            raise Stopped(StopReason.UNREADABLE_FILE, "a file of marked ids that is cut short")
        return _ids(b"")


def coming_and_leaving(ids: Ids, bucket_bits: int) -> tuple[Ids, Ids]:
    """Return the coming and the leaving ids, each once, by its last mark."""
    names = name_order(ids, bucket_bits)
    last = ids if names.is_first.all() else ids[names.order[names.is_last]]
    leaves = last[:, -1] == _LEAVES
    return last[~leaves], last[leaves]


async def merge_marked(
    spool: Spool,
    first_part: int,
    writer: Writer,
    changes: Sequence[Change],
    pairs_per_batch: int = PAIRS_PER_BATCH,
) -> AsyncIterator[Merged]:
    """
    Add the coming ids to the changes' audiences, and remove the leaving ids.

    `changes` are additions only.

    Raises:
        segments.model.record.CorruptRecord, redis.exceptions.RedisError: See `merge`.
    """
    removals = removals_of(changes)
    max_rows = max(1, pairs_per_batch // max(1, len(changes)))
    for batch in spool.batches(first_part, max_rows):
        coming, leaving = coming_and_leaving(batch.ids, writer.bucket_bits)
        came = await writer.merge_each(coming, changes)
        left = await writer.merge_each(leaving, removals)
        tallies = by_audience([*changes, *removals], [*came, *left])
        rows = len(batch.ids)
        yield Merged(batch.next_part, rows, rows - len(coming) - len(leaving), tallies)


def removals_of(changes: Sequence[Change]) -> list[Change]:
    """Return the removals that undo some additions."""
    return [Change(change.audience_id, is_add=False) for change in changes]


def _ids(raw: bytes) -> Ids:
    return np.frombuffer(raw, np.uint8).reshape(-1, ID_BYTES)
