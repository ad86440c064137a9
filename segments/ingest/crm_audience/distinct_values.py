"""
Counts distinct values in bounded memory.

Exact up to `EXACT` values, by their first 64 bits. Beyond that, HyperLogLog (Flajolet et al.,
2007) with 2^14 registers, 16 KiB: a standard error of 1.04 / sqrt(2^14), 0.8 %. The values are
hashes already; such large counts need no correction for small ones.
"""

import numpy as np
from numpy.typing import NDArray

EXACT = 1 << 20
STANDARD_ERROR = 0.0081

_INDEX_BITS = 14
_REGISTERS = 1 << _INDEX_BITS
_RANK_BITS = 32
_ALPHA = 0.7213 / (1 + 1.079 / _REGISTERS)
_PENDING = 1 << 16


class Distinct:
    """Counts distinct values: add them, then read `count`."""

    def __init__(self, exact: int = EXACT) -> None:
        self._max_keys = exact
        self._keys = np.empty(0, np.uint64)
        self._pending: list[NDArray[np.uint64]] = []
        self._pending_rows = 0
        self._registers: NDArray[np.uint8] | None = None

    @property
    def is_exact(self) -> bool:
        """Whether the count is exact."""
        self._take_pending()
        return self._registers is None

    @property
    def count(self) -> int:
        """The number of distinct values so far."""
        self._take_pending()
        if self._registers is None:
            return len(self._keys)
        return round(_ALPHA * _REGISTERS**2 / float(np.exp2(-self._registers.astype(float)).sum()))

    def add(self, digests: NDArray[np.uint8]) -> None:
        """Add values: a matrix with a digest of at least eight bytes a row."""
        keys = np.ascontiguousarray(digests[:, :8]).view(np.uint64).ravel()
        self._pending.append(keys)
        self._pending_rows += len(keys)
        if self._pending_rows >= _PENDING:
            self._take_pending()

    def _take_pending(self) -> None:
        if not self._pending:
            return
        # Not `np.unique`, which takes ten times as long.
        keys = np.sort(np.concatenate((self._keys, *self._pending)))
        keys = keys[np.concatenate(([True], keys[1:] != keys[:-1]))] if len(keys) else keys
        self._pending, self._pending_rows = [], 0
        if self._registers is None and len(keys) <= self._max_keys:
            self._keys = keys
            return
        self._keys = np.empty(0, np.uint64)
        if self._registers is None:
            self._registers = np.zeros(_REGISTERS, np.uint8)
        index = (keys >> np.uint64(64 - _INDEX_BITS)).astype(np.intp)
        rest = (keys >> np.uint64(64 - _INDEX_BITS - _RANK_BITS)) & np.uint64(2**_RANK_BITS - 1)
        # Exact: 32 bits fit into a double, and its exponent is the number of bits.
        bits = np.frexp(rest.astype(np.float64))[1]
        np.maximum.at(self._registers, index, (_RANK_BITS + 1 - bits).astype(np.uint8))
