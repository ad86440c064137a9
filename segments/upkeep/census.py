"""
The census: exact counts of all audiences' members in the store.

Records are of persons, so all buckets are read once, a few at a time, with a pause as long as each
round, as in a sweep; a bid waits for a round trip at most. Equal records, as of most persons of a
file, are counted together and parsed once.

Discarded: the sum of jobs' tallies, which misses ends, erasures and sweeps; and HyperLogLog, which
never forgets a member.

A census is due once a day, and within ten minutes of an audience's first planned delivery. A
membership counts to the end of its last day, even if hidden by an opt-out. Persons written
meanwhile count as found.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import accounts
from segments.ledger.audience_counts import (
    forget_counts,
    is_census_due,
    keep_counts,
    to_be_counted,
)
from segments.ledger.database.engine import reading
from segments.model.audience_count import AudienceCount
from segments.model.record import (
    DAY_BITS,
    EVERYONE,
    MAX_EXPIRY_DAY,
    NO_EXPIRY,
    CorruptRecord,
    day_of,
    numbered,
)
from segments.store import keys
from segments.store.reader import read_meta
from segments.upkeep.sweep import buckets_of

_RECORDS_AT_ONCE = 50_000
_NUMBERS_AT_ONCE = 500_000
_ROWS_AT_ONCE = 200
_LOOK_EVERY_S = 600

_Numbers = NDArray[np.int64]
_NONE: _Numbers = np.empty(0, np.int64)


class Census(NamedTuple):
    """The results of a census."""

    audiences: int = 0
    persons: int = 0  # with a record
    unreadable: int = 0  # records; they count nowhere


class Members:
    """Counts members by audience, record by record."""

    def __init__(self, audience_to_forbidding: Mapping[int, frozenset[int]], today: int) -> None:
        """
        Each audience has the accounts, besides `EVERYONE`, whose opt-outs hide a person in it.

        Other audiences are not counted.
        """
        self._forbidding = audience_to_forbidding
        self._today = today
        self._pending: Counter[bytes] = Counter()
        self.persons = 0
        self.unreadable = 0
        self._members = _Sums()  # by `numbered` membership, of any audience and day
        self._opted_out: Counter[int] = Counter()

    def add(self, records: list[bytes]) -> None:
        """Take records, as packed."""
        self.persons += len(records)
        self._pending.update(records)
        if len(self._pending) >= _RECORDS_AT_ONCE:
            self._count_pending()

    def counts(self, now_s: float) -> list[AudienceCount]:
        """Return the counts of all audiences, also of those without members."""
        self._count_pending()
        ends: dict[int, dict[int, int]] = {audience_id: {} for audience_id in self._forbidding}
        for number, members in self._members.sums():
            audience_id, day = number >> DAY_BITS, number & MAX_EXPIRY_DAY
            if self._counts(audience_id, day):
                ends[audience_id][day] = members
        return [
            AudienceCount(
                audience_id,
                self._today,
                now_s,
                sum(by_day.values()),
                self._opted_out[audience_id],
                {day: members for day, members in by_day.items() if day != NO_EXPIRY},
            )
            for audience_id, by_day in ends.items()
        ]

    def _count_pending(self) -> None:
        # Most of a census's time: memberships that do not count are left out at the end.
        pending = self._pending
        all_numbers: list[int] = []
        lengths: list[int] = []
        for raw, persons in pending.items():
            try:
                opt_outs, numbers = numbered(raw)
            except CorruptRecord:
                self.unreadable += persons
                lengths.append(0)
                continue
            all_numbers += numbers
            lengths.append(len(numbers))
            if opt_outs:
                account_ids = {opt_out.account_id for opt_out in opt_outs}
                for number in numbers:
                    audience_id = number >> DAY_BITS
                    is_counted = self._counts(audience_id, number & MAX_EXPIRY_DAY)
                    if is_counted and self._hides(account_ids, audience_id):
                        self._opted_out[audience_id] += persons
        persons_of_each = np.fromiter(pending.values(), np.int64, len(pending))
        self._members.add(
            np.array(all_numbers, np.int64), np.repeat(persons_of_each, np.array(lengths, np.intp))
        )
        self._pending.clear()

    def _counts(self, audience_id: int, day: int) -> bool:
        """Tell whether a membership of a counted audience holds today."""
        return audience_id in self._forbidding and not NO_EXPIRY < day < self._today

    def _hides(self, account_ids: set[int], audience_id: int) -> bool:
        return EVERYONE in account_ids or bool(account_ids & self._forbidding[audience_id])


class _Sums:
    """
    Adds up amounts by number, in arrays.

    A dictionary of 100,000 numbers costs four times as much: it misses the processor's cache at
    each.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[_Numbers, _Numbers]] = []
        self._size = 0
        self._sum_at = _NUMBERS_AT_ONCE

    def add(self, numbers: _Numbers, amounts: _Numbers) -> None:
        """Add an amount to the sum of each number; numbers may repeat."""
        self._parts.append((numbers, amounts))
        self._size += len(numbers)
        if self._size >= self._sum_at:
            self._sum_up()
            # Sums are sorted again only when as many numbers have come in.
            self._sum_at = max(_NUMBERS_AT_ONCE, 2 * self._size)

    def sums(self) -> Iterable[tuple[int, int]]:
        """Return each number with its sum, by number."""
        self._sum_up()
        return zip(*(column.tolist() for column in self._parts[0]), strict=True)

    def _sum_up(self) -> None:
        numbers, amounts = map(np.concatenate, zip((_NONE, _NONE), *self._parts, strict=True))
        order = np.argsort(numbers)
        numbers, amounts = numbers[order], amounts[order]
        firsts = np.flatnonzero(np.diff(numbers, prepend=-1))
        sums = np.add.reduceat(amounts, firsts) if len(firsts) else _NONE
        self._parts = [(numbers[firsts], sums)]
        self._size = len(firsts)


async def census_if_due(
    ledger: AsyncEngine,
    redis: Redis,
    now_s: Callable[[], float],
    show: Callable[[], None] = lambda: None,
) -> Census | None:
    """
    Count all audiences if due, and in no other process; `None`: no census was due.

    `show` is called after each round, and may end the census by an exception.

    Raises:
        segments.store.reader.StoreUnusable, redis.exceptions.RedisError: The store can't be read;
            nothing was kept.
    """
    if not await redis.set(keys.COUNTED, b"1", nx=True, ex=_LOOK_EVERY_S):
        return None
    async with reading(ledger) as conn:
        if not await is_census_due(conn, day_of(now_s())):
            return None
    return await census(ledger, redis, now_s, show)


async def census(
    ledger: AsyncEngine,
    redis: Redis,
    now_s: Callable[[], float],
    show: Callable[[], None] = lambda: None,
) -> Census:
    """Count all audiences now; otherwise as `census_if_due`."""
    meta = await read_meta(redis)
    async with reading(ledger) as conn:
        audience_to_owner = await to_be_counted(conn)
        tree = await accounts.tree(conn)
    owner_to_forbidding = {
        owner_id: tree.forbidding(owner_id) for owner_id in set(audience_to_owner.values())
    }
    forbidding = {
        audience_id: owner_to_forbidding[owner_id]
        for audience_id, owner_id in audience_to_owner.items()
    }
    if not audience_to_owner:
        return Census()
    counted_at_s = now_s()
    members = Members(forbidding, day_of(counted_at_s))
    await count(redis, meta.bucket_bits, members, show)
    counts = members.counts(counted_at_s)
    for at in range(0, len(counts), _ROWS_AT_ONCE):
        async with ledger.begin() as conn:
            await keep_counts(conn, counts[at : at + _ROWS_AT_ONCE])
    async with ledger.begin() as conn:
        await forget_counts(conn, day_of(counted_at_s))
    return Census(len(counts), members.persons, members.unreadable)


async def count(
    redis: Redis, bucket_bits: int, members: Members, show: Callable[[], None] = lambda: None
) -> None:
    """Count the records of all buckets, each bucket once."""
    is_counted = bytearray(1 << max(0, bucket_bits - 3))  # a bit for each bucket
    async for buckets in buckets_of(redis):
        began_s = time.monotonic()
        new = []
        for bucket in buckets:  # a scan may name a bucket twice
            bit = 1 << (bucket & 7)
            if not is_counted[bucket >> 3] & bit:
                is_counted[bucket >> 3] |= bit
                new.append(bucket)
        members.add(await _records(redis, new))
        show()
        await asyncio.sleep(time.monotonic() - began_s)


async def _records(redis: Redis, buckets: Sequence[int]) -> list[bytes]:
    async with redis.pipeline(transaction=False) as pipeline:
        for bucket in buckets:
            pipeline.hvals(keys.bucket_key(bucket))
        replies = await pipeline.execute(raise_on_error=False)
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply
    return list(chain.from_iterable(replies))
