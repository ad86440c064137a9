"""
Which ids of a file were seen in bids: the reading side of `segments.store.seen_filter`.

    for each day that has a filter   (16 MiB, read once a job)
        for each batch of ids        those that no day before it knew
            4 probes, one after the other, of those that are left

Day by day, so that one filter is in memory at a time, and the answer as one bit
an id: 16 MiB of filter, twice while it is read, and 1.25 MB for 10 million ids,
beside a batch. A filter that is a tenth full turns most ids away at the first probe.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis

from segments.ingest.parse import Ids
from segments.store.keys import seen_key
from segments.store.seen_filter import BITS, BITS_MASK, PROBES, days_remembered

Mask: TypeAlias = NDArray[np.bool_]


class SeenIds:
    """Of some batches of ids, which were seen; in the order of the batches."""

    def __init__(self) -> None:
        self._packed: list[NDArray[np.uint8]] = []

    def mask(self, batch: int, ids: Ids) -> Mask:
        """Tell of each id of a batch, by its number, whether it was seen."""
        if batch >= len(self._packed):
            return np.zeros(len(ids), np.bool_)
        return np.unpackbits(self._packed[batch], count=len(ids)).view(np.bool_)

    def add(self, batch: int, ids: Ids, filter_: NDArray[np.uint8]) -> None:
        """Ask one day's filter about a batch, the next or one that was asked about before."""
        mask = self.mask(batch, ids)
        left = np.flatnonzero(~mask)
        mask[left] = has(filter_, ids[left])
        # Put in its place, or behind the last.
        self._packed[batch : batch + 1] = [np.packbits(mask)]


async def seen_in_bids(
    redis: Redis,
    today: int,
    sets: Sequence[Callable[[], Iterator[Ids]]],
    still_here: Callable[[], Awaitable[None]],
) -> list[SeenIds] | None:
    """
    Find out which ids were in bids of the last `SEEN_DAYS` days.

    Args:
        redis: The store.
        today: As `record.day_of` counts.
        sets: Each called once a day for its batches, the same every time.
        still_here: Called after each batch.

    Returns:
        What was seen of each set; `None` where no day has a filter, which one
        round trip has told.

    Raises:
        redis.exceptions.RedisError: The store can't be read.
    """
    keys = [seen_key(day) for day in days_remembered(today)]
    async with redis.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.exists(key)
        are_there = await pipeline.execute()
    if not any(are_there):
        return None
    all_seen = [SeenIds() for _ in sets]
    for key in (key for key, is_there in zip(keys, are_there, strict=True) if is_there):
        raw = await redis.get(key) or b""  # its day is over since
        assert isinstance(raw, bytes), "our clients decode nothing"
        filter_ = filter_of(raw)
        for seen, batches in zip(all_seen, sets, strict=True):
            for number, ids in enumerate(batches()):
                seen.add(number, ids, filter_)
                await still_here()
    return all_seen


def filter_of(raw: bytes) -> NDArray[np.uint8]:
    """Read a day's filter; the store keeps it no longer than up to its last bit."""
    return np.frombuffer(raw.ljust(BITS // 8, b"\0"), np.uint8)


def has(filter_: NDArray[np.uint8], ids: Ids) -> Mask:
    """Tell of each id whether a day's filter has all its bits."""
    words = np.ascontiguousarray(ids).view(">u4").astype(np.uint32) & np.uint32(BITS_MASK)
    left = np.arange(len(ids))
    for probe in range(PROBES):
        at = words[left, probe]
        # Bit 0 of a string is the highest of its first byte.
        left = left[(filter_[at >> 3] << (at & 7).astype(np.uint8)) & 0x80 != 0]
    mask = np.zeros(len(ids), np.bool_)
    mask[left] = True
    return mask
