"""Ids as far as a store tells them apart, many at once."""

import numpy as np
import numpy.typing as npt

from segments.ingest.parse import Ids
from segments.store import keys

NAME_BYTES = keys.FIELD_END
Names = npt.NDArray[np.bytes_]
"""
The bucket's number in 4 bytes, then the field. All of one length, so that numpy
takes no notice of zeros at their ends is harmless here, where names are compared
with each other alone.
"""


def names_of(ids: Ids, bucket_bits: int) -> Names:
    """Name ids as a store with so many buckets does."""
    names = ids[:, : keys.FIELD_END].copy()
    prefixes = names[:, : keys.FIELD_START].copy().view(">u4")
    buckets = (prefixes >> np.uint32(32 - bucket_bits)).astype(">u4")
    names[:, : keys.FIELD_START] = buckets.view(np.uint8)
    return names.view(f"S{NAME_BYTES}").ravel()


def name_set(ids: Ids, bucket_bits: int) -> set[bytes]:
    """Return the names of ids, for looking up one at a time."""
    raw = names_of(ids, bucket_bits).tobytes()
    return {raw[at : at + NAME_BYTES] for at in range(0, len(raw), NAME_BYTES)}
