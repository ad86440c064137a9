"""
The only door by which memberships and opt-outs get into the store.

    ids  ->  calls, one bucket each  ->  slices of a pipeline  ->  tally
             script_calls.py                    round_trips.py

There are two ways to do a call. A bucket that is not there yet is made whole by
a RESTORE (see `restore_payload`), which costs the server a tenth of the script and does
nothing where there is one; what it refuses, whatever the reason, goes to the
script, which can do everything. So a merge begins by trying to fill, and gives
that up as soon as it meets more buckets that are there than are not.

A call has a price of its own, some twenty microseconds in the server and twice
that here, so the more ids are merged together, the more share it: a million at
once go twice as fast as five times two hundred thousand.

Everything written here may be written again: after a lost connection the same
merge changes nothing more, and only its tally differs.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import chain, compress, islice
from operator import not_
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from redis.asyncio import Redis

from segments.model.identity import Id
from segments.model.record import (
    NOTHING,
    Change,
    CorruptRecord,
    Membership,
    OptOut,
    OptOutAction,
    Record,
    Tally,
    merged,
    pack,
)
from segments.store import keys, rebuild_claim, scripts
from segments.store.meta import Told, tell
from segments.store.reader import Meta
from segments.store.restore_payload import MAX_RECORD_BYTES, payloads
from segments.store.round_trips import RoundTrips
from segments.store.script_calls import CALLS_PER_SLICE, Call, calls_of, slices
from segments.store.servers.masters import sure_pipeline

ROWS_PER_FILL = 4096
CALLS_PER_FILL = 1024
"""What one round trip carries of buckets to fill: a millisecond at most, and the server,
which reads 16 to 50 KB at a time (measured), answers bids in between."""

BUCKETS_PER_SLICE = 8
"""... and where a call looks at all that a bucket holds."""


class Matched(NamedTuple):
    """Of some ids, how many different ones there are, the store knows, and may be used."""

    unique: int = 0
    known: int = 0
    usable: int = 0  # known, and no opt-out forbids it


class Writer:
    """Writes to a store that is laid out as `meta` says."""

    def __init__(
        self,
        redis: Redis,
        meta: Meta,
        rebuild: str | None = None,
        *,
        is_behind: bool = False,
    ) -> None:
        """
        Args:
            redis: The store.
            meta: As read from it; or as it will be, by the rebuild that writes.
            rebuild: The name under which it is rebuilt, by the process that does so.
            is_behind: Its ledger is behind it, and brought up by the process that writes.
        """
        self._redis = redis
        self._meta = meta
        self._bucket_bits = meta.bucket_bits
        self._rebuild = rebuild
        self._is_behind = is_behind

    @property
    def bucket_bits(self) -> int:
        """How the store is laid out."""
        return self._bucket_bits

    async def merge(
        self, ids: npt.NDArray[np.uint8] | Sequence[Id], changes: Sequence[Change]
    ) -> Tally:
        """
        Apply the same changes to every id, as `record.merged` specifies.

        Args:
            ids: An array of shape (n, 16), or a sequence. One that stands
                there twice counts once.
            changes: In the order in which they apply.

        Raises:
            CorruptRecord: Names the bucket in which a record can't be read.
                Nothing was written for the ids that shared its call; others
                may have been.
            StoreUnusable: The store was laid out anew, or refuses to write.
            redis.exceptions.RedisError: The store can't be reached; some of it
                may have been written. Merge it again.
        """
        arguments = [argument for change in changes for argument in _arguments_of(change)]
        if not arguments or not len(ids):
            return Tally()
        await self._check_layout(audience_id=max(change.audience_id for change in changes))
        calls = calls_of(ids, self._bucket_bits)
        filled, calls = await self._fill(calls, changes)
        replies = await RoundTrips(self._redis, scripts.MERGE, arguments).run(calls)
        return filled + Tally(*(sum(column) for column in zip(*replies, strict=True)))

    async def match(self, ids: npt.NDArray[np.uint8], forbidding: Collection[int]) -> Matched:
        """
        Count which ids the store knows, and which of these may be used. Writes nothing.

        Args:
            ids: An array of shape (n, 16).
            forbidding: The accounts whose opt-outs forbid it, besides global ones.

        Raises:
            CorruptRecord, StoreUnusable, redis.exceptions.RedisError: As `merge`.
        """
        if not len(ids):
            return Matched()
        await self._check_layout()
        calls = calls_of(ids, self._bucket_bits)
        replies = await RoundTrips(self._redis, scripts.MATCH, [_numbers(forbidding)]).run(calls)
        return Matched(*(sum(column) for column in zip(*replies, strict=True)))

    async def opt_out(
        self,
        ids: Sequence[Id],
        opt_out: OptOut,
        erased_audience_ids: Collection[int] | None = None,
        *,
        number: int = 0,
        transaction_id: str = "",
    ) -> None:
        """
        Record an opt-out of every id, as `record.opted_out` specifies.

        Args:
            ids: Whether the store knows them or not.
            opt_out: Whose, and what it asks for.
            erased_audience_ids: For an ERASURE, the audiences whose memberships
                it deletes; `None` for all of them.
            number: The ledger's of the request, the highest if there are several.
            transaction_id: Of that request.

        Raises:
            CorruptRecord, StoreUnusable, redis.exceptions.RedisError: As `merge`.
        """
        # Behind the header and a count of one stands the opt-out itself.
        packed = pack(Record(opt_outs=(opt_out,)))[2:]
        if opt_out.action is OptOutAction.RESTRICT:
            erased = b"none"
        elif erased_audience_ids is None:
            erased = b"all"
        else:
            erased = _numbers(erased_audience_ids)
        arguments = [b"%d" % opt_out.account_id, b"%d" % opt_out.action, packed, erased]
        if ids:
            await self._check_layout(opt_out=number, opt_out_of=transaction_id)
            calls = calls_of(ids, self._bucket_bits)
            # Who is no master any more must not have it alone: see
            # `segments.store.servers.cluster_client`.
            pipeline = await sure_pipeline(self._redis)
            await RoundTrips(self._redis, scripts.OPT_OUT, arguments, pipeline).run(calls)

    async def sweep(
        self, buckets: Sequence[int], today: int, deleted_audience_ids: Collection[int]
    ) -> tuple[int, list[CorruptRecord]]:
        """
        Drop from whole buckets what no bid shows any more, as `record.swept` specifies.

        Args:
            buckets: Their numbers; all in one round trip.
            today: As `record.day_of` counts.
            deleted_audience_ids: All that were ever deleted.

        Returns:
            How many memberships were dropped; and, of each bucket that holds a
            record which can't be read, which it is.

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
        Take out of an audience, in whole buckets, whoever is not named.

        Args:
            bucket_to_fields: Buckets, each with the fields of those who stay,
                8 bytes each, one behind the other.
            audience_id: The memberships of all others stay as they are.

        Returns:
            How many memberships were dropped.

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

    async def _check_layout(
        self, *, audience_id: int = 0, opt_out: int = 0, opt_out_of: str = ""
    ) -> None:
        # One round trip for many thousand rows: a store that was emptied and laid
        # out anew meanwhile must not get rows where nobody will look for them. The numbers
        # that they have in them it is told first, and never forgets.
        if self._rebuild is not None:
            await rebuild_claim.check(self._redis, self._rebuild)
        elif not self._is_behind:
            await tell(self._redis, self._meta, Told(audience_id, opt_out, opt_out_of))

    async def _fill(
        self, calls: Iterator[Call], changes: Sequence[Change]
    ) -> tuple[Tally, Iterator[Call]]:
        """Make buckets that are not there; return what that came to, and the calls left to do."""
        record, tally = merged(NOTHING, changes)
        raw = pack(record)
        if record == NOTHING or len(raw) > MAX_RECORD_BYTES:
            return Tally(), calls
        rows = 0
        refused: list[Call] = []
        # A few at first: most merges are into a store that has its buckets.
        first = islice(slices(calls, ROWS_PER_FILL, CALLS_PER_SLICE), 1)
        for calls_of_slice in chain(first, slices(calls, ROWS_PER_FILL, CALLS_PER_FILL)):
            are_made = await self._restore(calls_of_slice, raw)
            rows += sum(call.rows for call in compress(calls_of_slice, are_made))
            refused += compress(calls_of_slice, map(not_, are_made))
            if sum(are_made) * 2 < len(are_made):
                break
        return Tally(*(rows * count for count in tally)), chain(refused, calls)

    async def _restore(self, calls: list[Call], raw: bytes) -> list[bool]:
        """Make each bucket that is not there, with one record for all; tell which were made."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for call, payload in zip(
                calls, payloads([call.fields for call in calls], raw), strict=True
            ):
                pipeline.execute_command("RESTORE", keys.bucket_key(call.bucket), 0, payload)
            replies = await pipeline.execute(raise_on_error=False)
        # BUSYKEY, most often. Where it is anything else, as a RESTORE that is
        # forbidden or a store that is full, the script comes to it and says so.
        return [not isinstance(reply, Exception) for reply in replies]


def _arguments_of(change: Change) -> tuple[bytes, bytes, bytes]:
    membership = b""
    if change.is_add:
        # Behind the header stands the membership itself.
        added = Membership(change.audience_id, change.expiry_day)
        membership = pack(Record(memberships=(added,)))[1:]
    return b"%d" % change.audience_id, membership, _numbers(change.forbidden_by)


def _numbers(numbers: Collection[int]) -> bytes:
    return " ".join(map(str, sorted(numbers))).encode()
