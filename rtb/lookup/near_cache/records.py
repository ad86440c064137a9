"""
Records by id, in a bounded number of bytes.

    young   asked for in this generation      an id is put here, or moved here when
    old     the rest, most of them once       it is asked for again; evicted from here

When `old` is empty and room is needed, `young` becomes `old`, and the next generation begins: an id
asked for twice within a generation stays. Measured on Zipf traffic (200,000 persons; exponents 0.8,
0.99, 1.2; room for 2,000 to 60,000): hits within a tenth of a point of LRU, 2 to 4 points above
FIFO, at FIFO's cost, since a hit in `young` moves nothing. An `OrderedDict` as LRU doubles the cost
of each step, takes 65 bytes more an entry, and is scanned by each full garbage collection. A clock
costs as much, for half a point to a point more hits.

The store reports changed buckets, so each bucket's ids are noted in a string, 16 bytes each; mostly
a single id.
"""

from typing import Final

from segments.model.identity import ID_BYTES
from segments.store.keys import bucket_of

NOTHING: Final = b""
"""Of an unknown id: no record is empty."""

ENTRY_BYTES: Final = 380
"""
An entry besides its record at most: the id (64), the record's head (33 plus rounding), the bucket's
number (32), and places in two hash tables, a third to two thirds full. Measured: 170 to 380, mostly
270.
"""


class RecordCache:
    """
    Some records by id.

    Args:
        max_bytes: Of all entries, each `ENTRY_BYTES` and its record's length.
        bucket_bits: Of the store.
    """

    __slots__ = (
        "_bucket_bits",
        "_bucket_to_ids",
        "_old",
        "_young",
        "evictions",
        "max_bytes",
        "total_bytes",
    )

    def __init__(self, max_bytes: int, bucket_bits: int) -> None:
        self.max_bytes = max_bytes
        self._bucket_bits = bucket_bits
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._bucket_to_ids: dict[int, bytes] = {}
        self.total_bytes = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, id_: bytes) -> bytes | None:
        """Return the record of an id; `NOTHING` if the store has none; `None` if not kept."""
        record = self._young.get(id_)
        if record is None:
            record = self._old.pop(id_, None)
            if record is not None:
                self._young[id_] = record
        return record

    def put(self, id_: bytes, record: bytes) -> None:
        """Keep an id's record, or `NOTHING`; evict others if necessary."""
        before = self._young.pop(id_, None)
        if before is None:
            before = self._old.pop(id_, None)
        if before is not None:
            self._let_go(id_, before)
        needed_bytes = ENTRY_BYTES + len(record)
        if needed_bytes > self.max_bytes:
            return
        while self.total_bytes + needed_bytes > self.max_bytes:
            if not self._old:
                self._old, self._young = self._young, self._old
            self.evictions += 1
            self._let_go(*self._old.popitem())
        self.total_bytes += needed_bytes
        self._young[id_] = record
        bucket = bucket_of(id_, self._bucket_bits)
        ids = self._bucket_to_ids.get(bucket)
        self._bucket_to_ids[bucket] = id_ if ids is None else ids + id_

    def drop(self, bucket: int) -> int:
        """Forget the ids of a bucket; return their number."""
        ids = self._bucket_to_ids.pop(bucket, None)
        if ids is None:
            return 0
        for at in range(0, len(ids), ID_BYTES):
            id_ = ids[at : at + ID_BYTES]
            record = self._young.pop(id_, None)
            if record is None:
                record = self._old.pop(id_)
            self.total_bytes -= ENTRY_BYTES + len(record)
        return len(ids) // ID_BYTES

    def clear(self) -> None:
        """Forget everything."""
        self._young.clear()
        self._old.clear()
        self._bucket_to_ids.clear()
        self.total_bytes = 0

    def _let_go(self, id_: bytes, record: bytes) -> None:
        self.total_bytes -= ENTRY_BYTES + len(record)
        bucket = bucket_of(id_, self._bucket_bits)
        ids = self._bucket_to_ids[bucket]
        if len(ids) == ID_BYTES:
            del self._bucket_to_ids[bucket]
            return
        at = 0
        while ids[at : at + ID_BYTES] != id_:
            at += ID_BYTES
        self._bucket_to_ids[bucket] = ids[:at] + ids[at + ID_BYTES :]
