"""
Ids seen in bids, as bits, if the operator wants to know.

    seg:1:seen:<day>    a Bloom filter of the ids looked up on that day (record.py's, UTC)

    id      | 32 bits | 32 bits | 32 bits | 32 bits |     16 bytes, a hash already
               & mask    & mask    & mask    & mask       4 probes: bit offsets for SETBIT

Off by default. Answers only how many ids of an uploaded file were in a bid lately
(`segments.ingest.seen_in_bids`). Bids are not stored, and bits yield no ids; only a party that has
an id can test it.

- **A whole day expires at once.** Each write sets the end of the `SEEN_DAYS`th day after. An
  ERASURE can't leave a Bloom filter, whose bits other ids share; but the person's record takes
  precedence over any bit.
- **Ids of opted-out persons are not added**, nor ids without a reply: `rtb.server.bids` adds a
  bid's ids once the store has allowed an answer.
- **Each day has its own filter.** A joint one of 31 days with 5 million different ids each would
  have 96 % false positives.

A day's false positive rate is (1 - e^(-kn/m))^k, where m = 2^27 bits, k = 4 probes, n = ids of
that day; for any of 31 such days, at most:

    n             a day        31 days
    1 million     7.4e-7       2.3e-5
    5 million     3.7e-4       1.1e-2
    10 million    4.4e-3       1.3e-1

A day takes 16 MiB from its first id on (the allocation blocks the store for 1 to 20 ms, once), all
days up to 496 MiB. Emptying the store loses the bits for good; a rebuild keeps them. Gaps only
undercount.
"""

from collections.abc import Collection
from struct import Struct
from typing import TYPE_CHECKING, Final

from segments.model.day import S_PER_DAY
from segments.model.identity import Id
from segments.model.record import day_of
from segments.store.keys import seen_key
from segments.store.scripts import SEEN
from segments.store.servers.masters import run_script

if TYPE_CHECKING:
    from redis.asyncio import Redis

SEEN_DAYS: Final = 30
"""Days kept after their end. No setting: both planes must agree."""

BITS: Final = 1 << 27
BITS_MASK: Final = BITS - 1
PROBES: Final = 4

IDS_PER_WRITE: Final = 64
"""Ids in a write at most: it blocks all bids for 0.3 to 0.6 ms."""

_WORDS: Final = Struct(f">{PROBES}I")


def probes(id_: Id) -> tuple[int, ...]:
    """Return the offsets of an id's bits, each below `BITS`."""
    return tuple([word & BITS_MASK for word in _WORDS.unpack(id_)])


def days_remembered(today: int) -> range:
    """Return the days that may still have a filter, as `record.day_of` counts."""
    return range(today - SEEN_DAYS, today + 1)


def forgotten_at_s(at_s: float) -> int:
    """Return the unix time at which the filter of `at_s`'s day expires."""
    return (int(at_s // S_PER_DAY) + 1 + SEEN_DAYS) * S_PER_DAY


async def remember(redis: "Redis", ids: Collection[Id], at_s: float) -> None:
    """
    Set the bits of `IDS_PER_WRITE` ids at most, in a round trip; idempotent.

    They were seen at the unix time `at_s`.

    Raises:
        redis.exceptions.RedisError: The write failed, or its result is unknown.
    """
    offsets = b"".join([_WORDS.pack(*probes(id_)) for id_ in ids])
    # A script, so that no bits lack an expiry. Measured per id: 2.5 µs here and 8 in the store, 4
    # if seen that day before; by SETBITs 45 and 5, as redis-py packs each command in Python.
    await run_script(redis, SEEN, seen_key(day_of(at_s)), offsets, forgotten_at_s(at_s))
