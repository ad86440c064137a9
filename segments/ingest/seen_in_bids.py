"""
Finds which ids of a file were seen in bids: the reader of `segments.store.seen_filter`.

    for each day that has a filter   (16 MiB, read once a job)
        for each batch of ids        those that no earlier filter contained
            4 probes in turn         of the ids that are left

Memory holds a day's filter (twice during its read), a batch, and the answer as a bit an id. A
filter that is a tenth full rejects most ids at the first probe.
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
    """Some batches' seen ids, in order."""

    def __init__(self) -> None:
        self._packed: list[NDArray[np.uint8]] = []

    def mask(self, batch: int, ids: Ids) -> Mask:
        """Return for each id of the batch of that number whether it was seen."""
        if batch >= len(self._packed):
            return np.zeros(len(ids), np.bool_)
        return np.unpackbits(self._packed[batch], count=len(ids)).view(np.bool_)

    def add(self, batch: int, ids: Ids, filter_: NDArray[np.uint8]) -> None:
        """Add a day's answers for a batch: the next, or an earlier batch again."""
        mask = self.mask(batch, ids)
        left = np.flatnonzero(~mask)
        mask[left] = has(filter_, ids[left])
        # In place, or appended.
        self._packed[batch : batch + 1] = [np.packbits(mask)]


async def seen_in_bids(
    redis: Redis,
    today: int,
    sets: Sequence[Callable[[], Iterator[Ids]]],
    still_here: Callable[[], Awaitable[None]],
) -> list[SeenIds] | None:
    """
    Find the ids in bids of the last `SEEN_DAYS` days.

    Each of `sets` returns its batches, always the same, once a day. `still_here` is called after
    each batch.

    Returns:
        The seen ids of each set; `None` if no day has a filter, after one round trip.

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
        raw = await redis.get(key) or b""  # expired meanwhile
        assert isinstance(raw, bytes), "our clients decode nothing"
        filter_ = filter_of(raw)
        for seen, batches in zip(all_seen, sets, strict=True):
            for number, ids in enumerate(batches()):
                seen.add(number, ids, filter_)
                await still_here()
    return all_seen


def filter_of(raw: bytes) -> NDArray[np.uint8]:
    """Return a day's filter; the store's string ends with the byte of the last set bit."""
    return np.frombuffer(raw.ljust(BITS // 8, b"\0"), np.uint8)


def has(filter_: NDArray[np.uint8], ids: Ids) -> Mask:
    """Return for each id whether a day's filter has all its bits."""
    words = np.ascontiguousarray(ids).view(">u4").astype(np.uint32) & np.uint32(BITS_MASK)
    left = np.arange(len(ids))
    for probe in range(PROBES):
        at = words[left, probe]
        # Redis counts bits from the highest bit of the first byte.
        left = left[(filter_[at >> 3] << (at & 7).astype(np.uint8)) & 0x80 != 0]
    mask = np.zeros(len(ids), np.bool_)
    mask[left] = True
    return mask
