"""An input in pieces, as a network or a disk may bring it."""

from random import Random
from zlib import crc32

_MAX_PIECES = 4


def pieces_of(data: bytes) -> list[bytes]:
    """Cut bytes in a few pieces or in none, always alike; no piece is empty."""
    rng = Random(crc32(data))
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(_MAX_PIECES)))
    bounds = zip([0, *cuts], [*cuts, len(data)], strict=True)
    return [data[at:end] for at, end in bounds if at < end]
