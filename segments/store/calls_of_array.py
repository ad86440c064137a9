"""Groups the ids of an array into script calls, as `segments.store.script_calls` does with few."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from segments.model.identity import ID_BYTES
from segments.store import keys
from segments.store.script_calls import ROWS_PER_CALL, Call


def calls_of_array(ids: npt.NDArray[np.uint8], bucket_bits: int) -> Iterator[Call]:
    """
    Sort ids, an array of shape (n, 16) with at least one, by bucket into calls; drop duplicates.

    Raises:
        ValueError: These are not ids.
    """
    if ids.dtype != np.uint8 or ids.ndim != 2 or ids.shape[1] != ID_BYTES:
        raise ValueError(f"ids of shape {ids.shape} and type {ids.dtype}, not (n, 16) of uint8")
    return _sorted(ids, bucket_bits)


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
