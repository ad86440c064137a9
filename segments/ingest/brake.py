"""
Stops a file that would empty an audience before it removes the first person.

A wrong export removes everybody as obediently as a right one removes a few. A
job that would take more than a share of an audience is *held*, with a reason,
and its partner's later files wait behind it, until a person has looked at it:
`rtb-segments release JOB`. What is removed so can't be brought back by a setting.

The share is measured in the store as it is, which knows no audience's size. Ids
are hashes, so the persons whose ids begin alike are a fair sample of all: of
such samples so many are taken, at random but for a given job always the same,
that each audience shows `ENOUGH` members, or else all of them. A share of one
half is then right within three hundredths. Of a store of a hundred million
persons that reads some ten thousand records, and of a small audience in it all.

Chunks that are applied at once are too small to be braked.
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
    """A person must look at the job; the message says why, in numbers alone."""


class Removing(Protocol):
    """How a kind of file takes persons out of audiences."""

    def removed_from(self, changes: Sequence[Change]) -> frozenset[int]:
        """Return the audiences that it may take persons out of."""

    def leaver(self, ids: Ids, bucket_bits: int) -> Callable[[bytes], bool]:
        """
        Return what tells of a member, by its name in the store, whether it is taken out.

        Args:
            ids: All in the file that begin as the members that will be asked for.
            bucket_bits: Of the store.
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
    See that a job removes no more of any audience than it may.

    Args:
        redis: The store.
        meta: As the store has it.
        spool: The ids of the file.
        changes: What it does to each of them.
        removing: How its kind takes persons out.
        max_removed_share: Of the members that an audience has now.
        seed: Chooses the samples.
        today: As `record.day_of` counts; members of whom that was over before don't count.

    Raises:
        Held: It would.
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
    """Those persons whose ids begin alike: some buckets of the store, some parts of the spool."""

    def __init__(self, number: int, bits: int, bucket_bits: int) -> None:
        self.buckets = _within(number, bits, bucket_bits)
        self.parts = _within(number, bits, PART_BITS)


def _samples(bucket_bits: int, seed: int) -> Iterator[_Sample]:
    bits = min(PART_BITS, bucket_bits)
    for number in Random(seed).sample(range(1 << bits), 1 << bits):  # noqa: S311 - no secret
        yield _Sample(number, bits, bucket_bits)


def _within(number: int, bits: int, finer_bits: int) -> range:
    """Return the numbers of more bits that begin with a number of fewer."""
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
        return []  # the merge will meet it, and say so
