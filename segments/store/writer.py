"""
Writes memberships, besides opt-outs: the only way into the store.

    ids  ->  calls, one bucket each  ->  slices of a pipeline  ->  tally
             calls_of_array.py                  round_trips.py

RESTORE makes a missing bucket whole (see `restore_payload`) at a tenth of the script's cost to the
server, and leaves an existing one alone. The script does every call for which RESTORE fails. So a
merge starts by filling, and stops that when it meets more existing than missing buckets.

A call costs some 20 µs in the server and twice that here: a million ids at once go twice as fast as
in five parts. Writes may be repeated: only the tally differs.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import chain, compress, islice
from operator import not_
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from redis.exceptions import ResponseError

from segments.model.identity import Id
from segments.model.record import (
    NOTHING,
    Change,
    CorruptRecord,
    Membership,
    Record,
    Tally,
    merged,
    pack,
)
from segments.store import keys, scripts
from segments.store.alike_payloads import payloads
from segments.store.calls_of_array import calls_of_array
from segments.store.opt_out_writer import OptOutWriter
from segments.store.restore_payload import MAX_RECORD_BYTES
from segments.store.round_trips import RoundTrips
from segments.store.script_calls import CALLS_PER_SLICE, Call, argument_of, calls_of, slices
from segments.store.servers.masters import note_slots, notes_changes

ROWS_PER_FILL = 4096
CALLS_PER_FILL = 1024
"""
A round trip that fills buckets: its transaction takes the server a millisecond at most, in which no
bid is answered.
"""

_RESULTS = len(Tally._fields)

BUCKETS_PER_SLICE = 8
"""A round trip that reads whole buckets."""


class Matched(NamedTuple):
    """Counts of some ids: distinct, known to the store, and usable."""

    unique: int = 0
    known: int = 0
    usable: int = 0  # known, and not forbidden by an opt-out


class Writer(OptOutWriter):
    """Writes memberships as well."""

    async def merge(
        self, ids: npt.NDArray[np.uint8] | Sequence[Id], changes: Sequence[Change]
    ) -> Tally:
        """
        Apply the same changes to every id, as `record.merged` specifies.

        `ids` are an array of shape (n, 16), or a sequence; duplicates count once. Returns the
        results of all changes together.

        Raises:
            As `merge_each`.
        """
        return sum(await self.merge_each(ids, changes), Tally())

    async def merge_each(
        self, ids: npt.NDArray[np.uint8] | Sequence[Id], changes: Sequence[Change]
    ) -> tuple[Tally, ...]:
        """
        Merge as `merge`; return the results of each change.

        Raises:
            CorruptRecord: Names the bucket of an unreadable record. Nothing was written for its
                call's ids, perhaps for others.
            StoreUnusable: The store was laid out anew, or refuses to write.
            redis.exceptions.RedisError: A part may be written. Merge again.
        """
        arguments = [argument for change in changes for argument in _arguments_of(change)]
        if not arguments or not len(ids):
            return (Tally(),) * len(changes)
        await self._check_layout(audience_id=max(change.audience_id for change in changes))
        calls = _calls_of(ids, self._bucket_bits)
        filled, calls = await self._fill(calls, changes)
        replies = await RoundTrips(self._redis, scripts.MERGE, arguments).run(calls)
        if not replies:
            return filled
        counts = [sum(column) for column in zip(*replies, strict=True)]
        return tuple(
            done + Tally(*counts[at : at + _RESULTS])
            for done, at in zip(filled, range(0, len(counts), _RESULTS), strict=True)
        )

    async def match(self, ids: npt.NDArray[np.uint8], forbidding: Collection[int]) -> Matched:
        """
        Count the ids that the store knows, and those that may be used.

        `ids` has the shape (n, 16); opt-outs of the `forbidding` accounts and global ones forbid
        use.

        Raises:
            CorruptRecord, StoreUnusable, redis.exceptions.RedisError: As `merge`.
        """
        if not len(ids):
            return Matched()
        await self._check_layout()
        calls = calls_of_array(ids, self._bucket_bits)
        replies = await RoundTrips(self._redis, scripts.MATCH, [argument_of(forbidding)]).run(calls)
        return Matched(*(sum(column) for column in zip(*replies, strict=True)))

    async def sweep(
        self, buckets: Sequence[int], today: int, deleted_audience_ids: Collection[int]
    ) -> tuple[int, list[CorruptRecord]]:
        """
        Drop from whole buckets memberships that no bid shows any more, as `record.swept` says.

        All buckets are in one round trip. `today` is as `record.day_of` counts.

        Returns:
            The number of dropped memberships; an error for each unreadable bucket.

        Raises:
            StoreUnusable, redis.exceptions.RedisError: As `merge`.
        """
        await self._check_layout()
        packed = b"".join(n.to_bytes(4) for n in sorted(deleted_audience_ids))
        calls = [Call(bucket, b"") for bucket in buckets]
        dropped, unreadable = 0, []
        sweeping = RoundTrips(self._redis, scripts.SWEEP, [b"%d" % today, packed])
        for reply in await sweeping.try_slice(calls):
            if isinstance(reply, CorruptRecord):
                unreadable.append(reply)
            elif isinstance(reply, Exception):
                raise reply
            else:
                dropped += reply
        return dropped, unreadable

    async def retain(self, bucket_to_fields: Sequence[tuple[int, bytes]], audience_id: int) -> int:
        """
        Remove all ids from an audience, in whole buckets, except the named ones.

        Each bucket has the fields that stay, 8 bytes each, joined. Returns the number of dropped
        memberships.

        Raises:
            CorruptRecord, StoreUnusable, redis.exceptions.RedisError: As `merge`.
        """
        await self._check_layout()
        dropped = 0
        retaining = RoundTrips(self._redis, scripts.RETAIN, [b"%d" % audience_id])
        for at in range(0, len(bucket_to_fields), BUCKETS_PER_SLICE):
            calls = [Call(*each) for each in bucket_to_fields[at : at + BUCKETS_PER_SLICE]]
            dropped += sum(await retaining.run_slice(calls))
        return dropped

    async def _fill(
        self, calls: Iterator[Call], changes: Sequence[Change]
    ) -> tuple[tuple[Tally, ...], Iterator[Call]]:
        """Make missing buckets; return the tally of each change, and the calls left."""
        record, tallies = merged(NOTHING, changes)
        raw = pack(record)
        if record == NOTHING or len(raw) > MAX_RECORD_BYTES:
            return (Tally(),) * len(changes), calls
        rows = 0
        refused: list[Call] = []
        # Few at first: most merges find buckets.
        first = islice(slices(calls, ROWS_PER_FILL, CALLS_PER_SLICE), 1)
        for calls_of_slice in chain(first, slices(calls, ROWS_PER_FILL, CALLS_PER_FILL)):
            are_made = await self._restore(calls_of_slice, raw)
            rows += sum(call.rows for call in compress(calls_of_slice, are_made))
            refused += compress(calls_of_slice, map(not_, are_made))
            if sum(are_made) * 2 < len(are_made):
                break
        filled = tuple(Tally(*(rows * count for count in tally)) for tally in tallies)
        return filled, chain(refused, calls)

    async def _restore(self, calls: list[Call], raw: bytes) -> list[bool]:
        """Make missing buckets with one record for all; tell which were made."""
        # A transaction: no bucket without a mark.
        is_marked = notes_changes(self._redis)
        async with self._redis.pipeline(transaction=is_marked) as pipeline:
            for call, payload in zip(
                calls, payloads([call.fields for call in calls], raw), strict=True
            ):
                pipeline.execute_command("RESTORE", keys.bucket_key(call.bucket), 0, payload)
            if is_marked:
                numbers = b"".join(call.bucket.to_bytes(4) for call in calls)
                pipeline.execute_command("EVAL", scripts.CHANGED.source, 1, keys.CHANGES, numbers)
            try:
                replies = await pipeline.execute(raise_on_error=False)
            except ResponseError as error:  # before the transaction: nothing was done
                note_slots(self._redis, error)
                return [False] * len(calls)
        # Usually BUSYKEY. After any other error the script does the call, or reports why it can't.
        return [not isinstance(reply, Exception) for reply in replies[: len(calls)]]


def _calls_of(ids: npt.NDArray[np.uint8] | Sequence[Id], bucket_bits: int) -> Iterator[Call]:
    if isinstance(ids, np.ndarray):
        return calls_of_array(ids, bucket_bits)
    return calls_of(ids, bucket_bits)


def _arguments_of(change: Change) -> tuple[bytes, bytes, bytes]:
    membership = b""
    if change.is_add:
        # Without the header byte.
        added = Membership(change.audience_id, change.expiry_day)
        membership = pack(Record(memberships=(added,)))[1:]
    return b"%d" % change.audience_id, membership, argument_of(change.forbidden_by)
