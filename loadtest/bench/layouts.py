"""
Bytes per id of our buckets, beside the obvious layouts.

    buckets            ours: about a hundred persons in one hash (segments/store/keys.py)
    string a person    SET of the same packed record
    set a person       SADD of the segment ids
    hash a person      HSET segment id -> expiry day

A set has no room for an expiry, two of a segment's four bytes in ours, so at a hundred segments a
person the set is smaller.

Keys of plain layouts are `seg:` and the id's 16 bytes; hex would take 16 more.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from redis.asyncio import Redis

from loadtest.bench.stock import Stock
from loadtest.servers import used_bytes
from segments.model.record import Membership, Record, pack
from segments.store import keys

BUCKETS = "buckets (ours)"
_AT_ONCE = 5_000
_FIRST = 100
_EXPIRY_DAY = 2_500

Command = tuple[bytes | str | int, ...]


def _string(key: bytes, segments: int) -> Command:
    memberships = tuple(Membership(n, 0) for n in range(1, segments + 1))
    return ("SET", key, pack(Record((), memberships)))


def _set(key: bytes, segments: int) -> Command:
    return ("SADD", key, *(1_000 + n for n in range(segments)))


def _hash(key: bytes, segments: int) -> Command:
    pairs: list[int] = []
    for n in range(segments):
        pairs += (1_000 + n, _EXPIRY_DAY)
    return ("HSET", key, *pairs)


PLAIN: Mapping[str, Callable[[bytes, int], Command]] = {
    "string a person": _string,
    "set a person": _set,
    "hash a person": _hash,
}


async def bytes_per_id(
    redis: Redis, stock: Stock, ids: npt.NDArray[np.uint8], segments: int
) -> dict[str, float]:
    """
    Write the same persons, `ids` of shape (n, 16), in each layout in turn, and measure the memory.

    Side effect: deletes all persons of the store.
    """
    name_to_bytes = {}
    # The first write's permanent data, such as scripts, must not count.
    await stock.put(ids[:_FIRST], segments)
    await _delete(redis, await _buckets(redis))
    empty_bytes = await used_bytes(redis)
    await stock.put(ids, segments)
    name_to_bytes[BUCKETS] = (await used_bytes(redis) - empty_bytes) / len(ids)
    await _delete(redis, await _buckets(redis))
    persons = [b"seg:" + row.tobytes() for row in ids]
    for name, command in PLAIN.items():
        empty_bytes = await used_bytes(redis)
        for part in _parts(persons):
            async with redis.pipeline(transaction=False) as pipeline:
                for key in part:
                    pipeline.execute_command(*command(key, segments))
                await pipeline.execute()
        name_to_bytes[name] = (await used_bytes(redis) - empty_bytes) / len(ids)
        await _delete(redis, persons)
    return name_to_bytes


async def _buckets(redis: Redis) -> list[bytes]:
    return [key async for key in redis.scan_iter(keys.BUCKET_PREFIX + b"*", _AT_ONCE)]


async def _delete(redis: Redis, names: Sequence[bytes]) -> None:
    for part in _parts(names):
        await redis.delete(*part)


def _parts(names: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(names), _AT_ONCE):
        yield names[start : start + _AT_ONCE]
