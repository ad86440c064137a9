"""The names of ids in the store, for many ids at once."""

import numpy as np
import numpy.typing as npt

from segments.ingest.parse import Ids
from segments.store import keys

NAME_BYTES = keys.FIELD_END
Names = npt.NDArray[np.bytes_]
"""
The bucket's number in 4 bytes, then the field. numpy ignores trailing zeros: harmless between names
of equal length.
"""


def names_of(ids: Ids, bucket_bits: int) -> Names:
    """Return ids' names in a store with `2 ** bucket_bits` buckets."""
    names = ids[:, : keys.FIELD_END].copy()
    prefixes = names[:, : keys.FIELD_START].copy().view(">u4")
    buckets = (prefixes >> np.uint32(32 - bucket_bits)).astype(">u4")
    names[:, : keys.FIELD_START] = buckets.view(np.uint8)
    return names.view(f"S{NAME_BYTES}").ravel()


def name_set(ids: Ids, bucket_bits: int) -> set[bytes]:
    """Return ids' names for single lookups."""
    raw = names_of(ids, bucket_bits).tobytes()
    return {raw[at : at + NAME_BYTES] for at in range(0, len(raw), NAME_BYTES)}
