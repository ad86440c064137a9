"""
Sorts ids by their names in the store - bucket, then field - for many ids at once.

A key of 64 bits holds the bucket and the beginning of the field. numpy sorts such keys at 0.02 µs
each, and names whole at 0.25. So names are sorted whole only if two keys are equal: mostly because
an id occurs twice.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segments.model.identity import ID_BYTES
from segments.store import keys

_KEY_BITS = 64


class NameOrder(NamedTuple):
    """The sorted names of ids."""

    order: npt.NDArray[np.intp]
    """Places of the ids; those of a name follow each other in their first order."""
    buckets: npt.NDArray[np.uint32]
    fields: npt.NDArray[np.uint64]
    """As eight bytes."""
    is_first: npt.NDArray[np.bool_]
    """Whether a name differs from the one before."""

    @property
    def is_last(self) -> npt.NDArray[np.bool_]:
        """Whether a name differs from the next."""
        return np.roll(self.is_first, -1)  # the first name differs from any before


def name_order(ids: npt.NDArray[np.uint8], bucket_bits: int) -> NameOrder:
    """
    Sort ids, an array of shape (n, 16), in a store with `2 ** bucket_bits` buckets.

    Raises:
        ValueError: These are not ids.
    """
    if ids.dtype != np.uint8 or ids.ndim != 2 or ids.shape[1] != ID_BYTES:
        raise ValueError(f"ids of shape {ids.shape} and type {ids.dtype}, not (n, 16) of uint8")
    prefixes = ids[:, : keys.FIELD_START].copy().view(">u4").ravel()
    buckets = prefixes.astype(np.uint32) >> np.uint32(32 - bucket_bits)
    fields = ids[:, keys.FIELD_START : keys.FIELD_END].copy().view(np.uint64).ravel()
    key = buckets.astype(np.uint64) << np.uint64(_KEY_BITS - bucket_bits)
    key |= fields >> np.uint64(bucket_bits)
    order = np.argsort(key)
    key = key[order]
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = key[1:] != key[:-1]
    if is_first.all():
        return NameOrder(order, buckets[order], fields[order], is_first)
    order = np.lexsort((fields, buckets))
    buckets, fields = buckets[order], fields[order]
    is_first[1:] = (buckets[1:] != buckets[:-1]) | (fields[1:] != fields[:-1])
    return NameOrder(order, buckets, fields, is_first)
