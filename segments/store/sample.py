"""
Estimates from a sample of buckets the store's content, and which servers lost theirs.

An id's first bits choose its bucket, a hash of the bucket's name the server. So all buckets hold
about as many persons with memberships. A server with less than a quarter of them has lost its data,
and received opt-outs or a file since. A shortfall by chance is reported once in 10^8 samples at
most. A single server, which loses all or nothing, can't be checked.

Memberships are estimated with a standard error of some 1 % where a bucket's hundred persons have
about as many memberships each. Reads a few hundred buckets, about a megabyte.
"""

import math
import random
from typing import Final, NamedTuple

from redis.asyncio import Redis

from segments.model.record import CorruptRecord, live
from segments.store import keys
from segments.store.reader import Meta
from segments.store.servers.masters import Server, masters

_LEFT_SHARE: Final = 0.25
_SURE: Final = 20.0
"""Exponent of Chernoff's bound for a Poisson variable: chance <= e^-20."""

_BUCKETS: Final = 256
_BUCKETS_A_SERVER: Final = 64
_BUCKETS_AT_ONCE: Final = 32


class Held(NamedTuple):
    """
    The result of a sample.

    Attributes:
        memberships: Unexpired, in the whole store, of live and other audiences.
        error: Standard error of `memberships`.
        lost: Servers with far too few persons.
        ids: Ids with such a membership, likewise.
    """

    memberships: float
    error: float
    lost: tuple[Server, ...]
    ids: float = 0.0


class _Bucket(NamedTuple):
    persons: int  # with memberships
    memberships: int


async def sample(redis: Redis, meta: Meta, today: int, rng: random.Random) -> Held:
    """
    Read some buckets of each server, as `rng` draws; `today` is as `record.day_of` counts.

    Raises:
        redis.exceptions.RedisError: A server does not answer.
    """
    servers = [server for server in await masters(redis) if server.slots]
    a_server = max(_BUCKETS_A_SERVER, _BUCKETS // len(servers))
    drawn = _drawn(servers, 1 << meta.bucket_bits, a_server, rng)
    looked = [await _look(redis, buckets, today) for buckets in drawn]

    memberships = variance = ids = 0.0
    for server, found in zip(servers, looked, strict=True):
        if found:
            share = sum(last - first + 1 for first, last in server.slots) / keys.SLOTS
            of_server = share * (1 << meta.bucket_bits)
            mean = sum(bucket.memberships for bucket in found) / len(found)
            spread = sum((bucket.memberships - mean) ** 2 for bucket in found)
            memberships += of_server * mean
            ids += of_server * sum(bucket.persons for bucket in found) / len(found)
            variance += of_server**2 * spread / max(1, len(found) - 1) / len(found)
    return Held(memberships, math.sqrt(variance), _lost(servers, looked), ids)


def _lost(servers: list[Server], looked: list[list[_Bucket]]) -> tuple[Server, ...]:
    persons = [sum(bucket.persons for bucket in found) for found in looked]
    # If three of four servers lost their data, the fullest still tells the mean.
    a_bucket = max(
        (count / len(found) for count, found in zip(persons, looked, strict=True) if found),
        default=0.0,
    )
    return tuple(
        server
        for server, found, count in zip(servers, looked, persons, strict=True)
        if _is_too_few(count, len(found) * a_bucket)
    )


def _is_too_few(count: int, expected: float) -> bool:
    if count > expected * _LEFT_SHARE:
        return False
    exponent = expected - count + (count * math.log(count / expected) if count else 0.0)
    return exponent >= _SURE


def _drawn(
    servers: list[Server], buckets: int, a_server: int, rng: random.Random
) -> list[list[int]]:
    """Draw distinct buckets of each server; all if there are few."""
    drawn: list[list[int]] = [[] for _ in servers]
    most = min(buckets, 4 * a_server * len(servers))
    for bucket in rng.sample(range(buckets), most):
        slot = keys.slot_of(keys.bucket_key(bucket))
        for server, of_server in zip(servers, drawn, strict=True):
            if len(of_server) < a_server and server.has(slot):
                of_server.append(bucket)
    return drawn


async def _look(redis: Redis, buckets: list[int], today: int) -> list[_Bucket]:
    found: list[_Bucket] = []
    for start in range(0, len(buckets), _BUCKETS_AT_ONCE):
        async with redis.pipeline(transaction=False) as pipeline:
            for bucket in buckets[start : start + _BUCKETS_AT_ONCE]:
                pipeline.execute_command("HVALS", keys.bucket_key(bucket))
            replies = await pipeline.execute()
        for raw in replies:
            counts = [_memberships(each, today) for each in raw]
            found.append(_Bucket(sum(map(bool, counts)), sum(counts)))
    return found


def _memberships(raw: bytes, today: int) -> int:
    try:
        return len(live(raw, today)[1])
    except CorruptRecord:  # reported by the next writer
        return 0
