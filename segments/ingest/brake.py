"""
Stops a file that would empty an audience, before the first removal.

A job that would remove more than a share of an audience, as by a wrong export, is *held*, as are
its partner's later files, until an operator has checked it and runs `rtb-segments release JOB`.

The share is measured in the store, which does not know an audience's size. Ids are hashes, so
those with a common prefix are a fair sample. Random samples, the same at each attempt of a job, are
read until each audience shows `ENOUGH` members or all are read. A share of one half is then right
within three hundredths; among a hundred million persons, this reads some ten thousand records.

Chunks of realtime requests are too small for the brake.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from random import Random
from typing import Protocol

from redis.asyncio import Redis

from segments.ingest.parse import Ids
from segments.ingest.spool import PART_BITS, Spool
from segments.model.record import Change, CorruptRecord, live
from segments.store import keys
from segments.store.reader import Meta

NEVER = 1.0
"""The share that no removal exceeds."""

ENOUGH = 1000
_BUCKETS_AT_ONCE = 32


class Held(Exception):
    """An operator must check the job; the message has no names."""


class Removing(Protocol):
    """How a kind of file removes persons from audiences."""

    def removed_from(self, changes: Sequence[Change]) -> frozenset[int]:
        """Return the audiences from which the file may remove persons."""

    def leaver(self, ids: Ids, bucket_bits: int) -> Callable[[bytes], bool]:
        """
        Return a predicate for members to remove, by name in the store.

        `ids` are the file's with the prefix of the members in question.
        """


async def check(
    redis: Redis,
    meta: Meta,
    spool: Spool,
    changes: Sequence[Change],
    removing: Removing,
    *,
    max_removed_share: float,
    seed: int,
    today: int = 0,
) -> None:
    """
    Check that a job removes not too much of any audience.

    `max_removed_share` is of an audience's current members, on the day `today` (`record.day_of`);
    `seed` selects the samples.

    Raises:
        Held: The job would remove more.
    """
    audience_ids = removing.removed_from(changes)
    if not audience_ids:
        return
    members, removed = Counter[int](), Counter[int]()
    for sample in _samples(meta.bucket_bits, seed):
        ids = spool.gather(sample.parts.start, sample.parts.stop)
        leaves = removing.leaver(ids, meta.bucket_bits)
        async for bucket, fields in _buckets(redis, sample):
            for field, raw in fields.items():
                is_removed = leaves(bucket.to_bytes(keys.FIELD_START) + field)
                for audience_id in audience_ids.intersection(_audience_ids(raw, today)):
                    members[audience_id] += 1
                    removed[audience_id] += is_removed
        if all(members[audience_id] >= ENOUGH for audience_id in audience_ids):
            break
    for audience_id in sorted(audience_ids):
        share = removed[audience_id] / max(members[audience_id], 1)
        if share > max_removed_share:
            raise Held(
                f"it would remove {share:.0%} of audience {audience_id}'s members"
                f" ({removed[audience_id]:,} of {members[audience_id]:,} looked at),"
                f" more than {max_removed_share:.0%}"
            )


class _Sample:
    def __init__(self, number: int, bits: int, bucket_bits: int) -> None:
        self.buckets = _within(number, bits, bucket_bits)
        self.parts = _within(number, bits, PART_BITS)


def _samples(bucket_bits: int, seed: int) -> Iterator[_Sample]:
    bits = min(PART_BITS, bucket_bits)
    for number in Random(seed).sample(range(1 << bits), 1 << bits):  # noqa: S311 - no secret
        yield _Sample(number, bits, bucket_bits)


def _within(number: int, bits: int, finer_bits: int) -> range:
    """Return the numbers of `finer_bits` bits with a number of `bits` bits as prefix."""
    return range(number << (finer_bits - bits), (number + 1) << (finer_bits - bits))


async def _buckets(redis: Redis, sample: _Sample) -> AsyncIterator[tuple[int, dict[bytes, bytes]]]:
    for at in range(0, len(sample.buckets), _BUCKETS_AT_ONCE):
        buckets = sample.buckets[at : at + _BUCKETS_AT_ONCE]
        async with redis.pipeline(transaction=False) as pipeline:
            for bucket in buckets:
                pipeline.hgetall(keys.bucket_key(bucket).decode())
            for bucket, fields in zip(buckets, await pipeline.execute(), strict=True):
                yield bucket, fields


def _audience_ids(raw: bytes, today: int) -> list[int]:
    try:
        return live(raw, today)[1]
    except CorruptRecord:
        return []  # the merge meets the record, and fails
