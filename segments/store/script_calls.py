"""
Groups ids into script calls: by bucket, each id once, and no call too large.

    ids  ->  by bucket, each once  ->  calls          ->  slices
             numpy                     fields of one      one round trip
                                       bucket each

The script splits a call's fields: a million ids would otherwise be a million Python objects.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segments.model.identity import ID_BYTES, Id
from segments.store import keys

ROWS_PER_CALL = 512
"""
More fields at once than a listpack may hold convert the hash for good. Also well below Lua's limit
of arguments.
"""

ROWS_PER_SLICE = 512
CALLS_PER_SLICE = 32
"""
A round trip: one to two milliseconds of the server's time, in which no bid is answered. Slices of
4096 rows were a quarter faster (measured: 224 against 176 thousand rows/s on two busy cores), but
delayed a tenth of the bids by 15 ms instead of 5. Two half slices in flight gained nothing
measurable.
"""


class Call(NamedTuple):
    """A script call's arguments: fields of a bucket, 8 bytes each, or all."""

    bucket: int
    fields: bytes

    @property
    def rows(self) -> int:
        """The number of ids."""
        return len(self.fields) // keys.FIELD_BYTES


def calls_of(ids: npt.NDArray[np.uint8] | Sequence[Id], bucket_bits: int) -> Iterator[Call]:
    """
    Sort ids by bucket into calls.

    Args:
        ids: Of shape (n, 16), or a sequence; at least one. Duplicates are removed.
        bucket_bits: Of the store's layout.

    Raises:
        ValueError: These are not ids.
    """
    return _sorted(_array_of(ids), bucket_bits)


def slices(
    calls: Iterable[Call], max_rows: int = ROWS_PER_SLICE, max_calls: int = CALLS_PER_SLICE
) -> Iterator[list[Call]]:
    """Batch calls lazily: a consumer that stops leaves the other calls untaken."""
    calls_of_slice: list[Call] = []
    rows = 0
    for call in calls:
        calls_of_slice.append(call)
        rows += call.rows
        if rows >= max_rows or len(calls_of_slice) >= max_calls:
            yield calls_of_slice
            calls_of_slice, rows = [], 0
    if calls_of_slice:
        yield calls_of_slice


def _array_of(ids: npt.NDArray[np.uint8] | Sequence[Id]) -> npt.NDArray[np.uint8]:
    if not isinstance(ids, np.ndarray):
        if any(len(id_) != ID_BYTES for id_ in ids):
            raise ValueError(f"an id that is not {ID_BYTES} bytes")
        return np.frombuffer(b"".join(ids), np.uint8).reshape(-1, ID_BYTES)
    if ids.dtype != np.uint8 or ids.ndim != 2 or ids.shape[1] != ID_BYTES:
        raise ValueError(f"ids of shape {ids.shape} and type {ids.dtype}, not (n, 16) of uint8")
    return ids


def _sorted(ids: npt.NDArray[np.uint8], bucket_bits: int) -> Iterator[Call]:
    """Give each (bucket, field) to a single call."""
    prefixes = ids[:, : keys.FIELD_START].copy().view(">u4").ravel()
    buckets = prefixes.astype(np.uint32) >> np.uint32(32 - bucket_bits)
    fields = ids[:, keys.FIELD_START : keys.FIELD_END].copy().view(np.uint64).ravel()
    order = np.lexsort((fields, buckets))
    buckets, fields = buckets[order], fields[order]

    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (buckets[1:] != buckets[:-1]) | (fields[1:] != fields[:-1])
    buckets, fields = buckets[is_first], fields[is_first]

    starts = np.flatnonzero(np.diff(buckets, prepend=buckets[0] ^ 1)).tolist()
    raw = fields.tobytes()
    for start, end in zip(starts, [*starts[1:], len(buckets)], strict=True):
        for at in range(start, end, ROWS_PER_CALL):
            until = min(at + ROWS_PER_CALL, end)
            packed = raw[at * keys.FIELD_BYTES : until * keys.FIELD_BYTES]
            yield Call(int(buckets[start]), packed)
