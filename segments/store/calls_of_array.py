"""Groups the ids of an array into script calls, as `segments.store.script_calls` does with few."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from segments.store import keys
from segments.store.name_order import NameOrder, name_order
from segments.store.script_calls import ROWS_PER_CALL, Call


def calls_of_array(ids: npt.NDArray[np.uint8], bucket_bits: int) -> Iterator[Call]:
    """
    Sort ids, an array of shape (n, 16) with at least one, by bucket into calls; drop duplicates.

    Raises:
        ValueError: These are not ids.
    """
    return calls_of_names(name_order(ids, bucket_bits))


def calls_of_names(names: NameOrder) -> Iterator[Call]:
    """Cut sorted names, at least one, into calls; drop duplicates."""
    buckets, fields = names.buckets[names.is_first], names.fields[names.is_first]
    starts = np.flatnonzero(np.diff(buckets, prepend=buckets[0] ^ 1)).tolist()
    raw = fields.tobytes()
    for start, end in zip(starts, [*starts[1:], len(buckets)], strict=True):
        for at in range(start, end, ROWS_PER_CALL):
            until = min(at + ROWS_PER_CALL, end)
            packed = raw[at * keys.FIELD_BYTES : until * keys.FIELD_BYTES]
            yield Call(int(buckets[start]), packed)
