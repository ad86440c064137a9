"""
The only door by which memberships and opt-outs get into the store.

    ids  ->  by bucket, each once  ->  calls         ->  slices of a pipeline  ->  tally
             numpy                     one bucket        one round trip each
                                       each

There are two ways to do a call. A bucket that is not there yet is made whole by
a RESTORE (see `payload`), which costs the server a tenth of the script and does
nothing where there is one; what it refuses, whatever the reason, goes to the
script, which can do everything. So a merge begins by trying to fill, and gives
that up as soon as it meets more buckets that are there than are not.

A script call carries the fields of its bucket as one string of bytes and lets the
script cut them up: a million ids would otherwise be a million Python objects.
A call has a price of its own, some twenty microseconds in the server and twice
that here, so the more ids are merged together, the more share it: a million at
once go twice as fast as five times two hundred thousand.

Everything written here may be written again: after a lost connection the same
merge changes nothing more, and only its tally differs.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, compress, islice
from operator import not_
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import NoScriptError, RedisError, ResponseError

from segments.identity import ID_BYTES, Id
from segments.record import (
    NOTHING,
    Action,
    Change,
    CorruptRecord,
    Membership,
    NewerRecord,
    OptOut,
    Record,
    Tally,
    merged,
    pack,
)
from segments.store import keys, rebuilding, scripts
from segments.store.payload import MAX_RECORD_BYTES, payloads
from segments.store.reader import Meta, StoreUnusable, read_meta
from segments.store.scripts import Script
from segments.store.servers import load_script, sure_pipeline

ROWS_PER_CALL = 512
"""A server that is given more fields at once than a listpack may hold unpacks the
hash for good. Also well below what Lua takes as arguments of one command."""

ROWS_PER_SLICE = 512
CALLS_PER_SLICE = 32
"""What one round trip carries: one to two milliseconds of the server's time. It reads
a slice at once and answers no bid before it is done; slices of 4096 rows were
a quarter faster (measured: 224 against 176 thousand rows/s on two busy cores) and
let a tenth of the bids wait for 15 ms instead of 5. Two slices of half the size in
flight at once, so that one is made while the other is done, gained nothing that
could be measured on two cores that had other work, and cost a sixth more here."""

ROWS_PER_FILL = 4096
CALLS_PER_FILL = 1024
"""The same for buckets to fill: a millisecond at most, and the server, which reads 16
to 50 KB at a time (measured), answers bids in between."""

BUCKETS_PER_SLICE = 8
"""The same where a call looks at all that a bucket holds."""


class Matched(NamedTuple):
    """Of some ids, how many different ones there are, the store knows, and may be used."""

    unique: int = 0
    known: int = 0
    usable: int = 0  # known, and no opt-out forbids it


class _Call(NamedTuple):
    """What one script call is for: some fields, 8 bytes each, of one bucket; or all of it."""

    bucket: int
    fields: bytes

    @property
    def rows(self) -> int:
        return len(self.fields) // keys.FIELD_BYTES


class Writer:
    """Writes to a store that is laid out as `meta` says."""

    def __init__(self, redis: Redis, meta: Meta, rebuild: str | None = None) -> None:
        """
        Args:
            redis: The store.
            meta: As read from it; or as it will be, by the rebuild that writes.
            rebuild: The name under which it is rebuilt, by the process that does so.
        """
        self._redis = redis
        self._bucket_bits = meta.bucket_bits
        self._rebuild = rebuild

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
        await self._check_layout()
        calls = _calls(_array_of(ids), self._bucket_bits)
        filled, calls = await self._fill(calls, changes)
        replies = await self._run(scripts.MERGE, calls, arguments)
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
        calls = _calls(_array_of(ids), self._bucket_bits)
        replies = await self._run(scripts.MATCH, calls, [_numbers(forbidding)])
        return Matched(*(sum(column) for column in zip(*replies, strict=True)))

    async def opt_out(
        self,
        ids: Sequence[Id],
        opt_out: OptOut,
        erased_audience_ids: Collection[int] | None = None,
    ) -> None:
        """
        Record an opt-out of every id, as `record.opted_out` specifies.

        Args:
            ids: Whether the store knows them or not.
            opt_out: Whose, and what it asks for.
            erased_audience_ids: For an ERASURE, the audiences whose memberships
                it deletes; `None` for all of them.

        Raises:
            CorruptRecord, StoreUnusable, redis.exceptions.RedisError: As `merge`.
        """
        # Behind the header and a count of one stands the opt-out itself.
        packed = pack(Record(opt_outs=(opt_out,)))[2:]
        if opt_out.action is Action.RESTRICT:
            erased = b"none"
        elif erased_audience_ids is None:
            erased = b"all"
        else:
            erased = _numbers(erased_audience_ids)
        arguments = [b"%d" % opt_out.account_id, b"%d" % opt_out.action, packed, erased]
        if ids:
            await self._check_layout()
            calls = _calls(_array_of(ids), self._bucket_bits)
            # Who is no master any more must not have it alone: see `cluster`.
            pipeline = await sure_pipeline(self._redis)
            await self._run(scripts.OPT_OUT, calls, arguments, pipeline)

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
        calls = [_Call(bucket, b"") for bucket in buckets]
        dropped, unreadable = 0, []
        for reply, call in zip(
            await self._replies(scripts.SWEEP, calls, [b"%d" % today, packed]), calls, strict=True
        ):
            if isinstance(reply, Exception):
                error = _reworded(reply, call.bucket)
                if not isinstance(error, CorruptRecord):
                    raise error
                unreadable.append(error)
            else:
                dropped += reply
        return dropped, unreadable

    async def _fill(
        self, calls: Iterator[_Call], changes: Sequence[Change]
    ) -> tuple[Tally, Iterator[_Call]]:
        """Make buckets that are not there; return what that came to, and the calls left to do."""
        record, tally = merged(NOTHING, changes)
        raw = pack(record)
        if record == NOTHING or len(raw) > MAX_RECORD_BYTES:
            return Tally(), calls
        rows = 0
        refused: list[_Call] = []
        # A few at first: most merges are into a store that has its buckets.
        first = islice(_slices(calls, ROWS_PER_FILL, CALLS_PER_SLICE), 1)
        for calls_of_slice in chain(first, _slices(calls, ROWS_PER_FILL, CALLS_PER_FILL)):
            are_made = await self._restore(calls_of_slice, raw)
            rows += sum(call.rows for call in compress(calls_of_slice, are_made))
            refused += compress(calls_of_slice, map(not_, are_made))
            if sum(are_made) * 2 < len(are_made):
                break
        return Tally(*(rows * count for count in tally)), chain(refused, calls)

    async def _restore(self, calls: list[_Call], raw: bytes) -> list[bool]:
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
        for at in range(0, len(bucket_to_fields), BUCKETS_PER_SLICE):
            calls = [_Call(*each) for each in bucket_to_fields[at : at + BUCKETS_PER_SLICE]]
            replies = await self._replies(scripts.RETAIN, calls, [b"%d" % audience_id])
            for call, reply in zip(calls, replies, strict=True):
                if isinstance(reply, Exception):
                    raise _reworded(reply, call.bucket)
                dropped += reply
        return dropped

    async def _run(
        self,
        script: Script,
        calls: Iterator[_Call],
        arguments: Sequence[bytes],
        pipeline: Pipeline | None = None,
    ) -> list[list[int]]:
        """Do all calls, slice by slice, over a pipeline of its own if none is given."""
        replies = []
        for calls_of_slice in _slices(calls):
            said = await self._replies(script, calls_of_slice, arguments, pipeline)
            for call, reply in zip(calls_of_slice, said, strict=True):
                if isinstance(reply, Exception):
                    raise _reworded(reply, call.bucket)
            replies += said
        return replies

    async def _check_layout(self) -> None:
        # One round trip for many thousand rows: a store that was emptied and laid
        # out anew meanwhile must not get rows where nobody will look for them.
        if self._rebuild is not None:
            await rebuilding.check(self._redis, self._rebuild)
        elif (await read_meta(self._redis)).bucket_bits != self._bucket_bits:
            raise StoreUnusable("the store was laid out anew under this process: start again")

    async def _replies(
        self,
        script: Script,
        calls: list[_Call],
        arguments: Sequence[bytes],
        pipeline: Pipeline | None = None,
    ) -> list[Any]:
        """Return what each call came to, in their order; of one that failed, why."""
        pipeline = pipeline or self._redis.pipeline(transaction=False)
        replies = await _sent(pipeline, script, calls, arguments)
        forgotten = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if forgotten:
            await load_script(self._redis, script.source)
            again = await _sent(pipeline, script, [calls[n] for n in forgotten], arguments)
            for n, reply in zip(forgotten, again, strict=True):
                replies[n] = reply
        return replies


async def _sent(
    pipeline: Pipeline, script: Script, calls: Sequence[_Call], arguments: Sequence[bytes]
) -> list[Any]:
    async with pipeline:  # which may be used again afterwards
        for call in calls:
            key = keys.bucket_key(call.bucket)
            fields = (call.fields,) if call.fields else ()
            pipeline.execute_command("EVALSHA", script.sha, 1, key, *fields, *arguments)
        # Raised by us: redis-py's own message would quote the fields.
        return await pipeline.execute(raise_on_error=False)


def _arguments_of(change: Change) -> tuple[bytes, bytes, bytes]:
    membership = b""
    if change.is_add:
        # Behind the header stands the membership itself.
        added = Membership(change.audience_id, change.expiry_day)
        membership = pack(Record(memberships=(added,)))[1:]
    return b"%d" % change.audience_id, membership, _numbers(change.forbidden_by)


def _numbers(numbers: Collection[int]) -> bytes:
    return " ".join(map(str, sorted(numbers))).encode()


def _array_of(ids: npt.NDArray[np.uint8] | Sequence[Id]) -> npt.NDArray[np.uint8]:
    if not isinstance(ids, np.ndarray):
        if any(len(id_) != ID_BYTES for id_ in ids):
            raise ValueError(f"an id that is not {ID_BYTES} bytes")
        return np.frombuffer(b"".join(ids), np.uint8).reshape(-1, ID_BYTES)
    if ids.dtype != np.uint8 or ids.ndim != 2 or ids.shape[1] != ID_BYTES:
        raise ValueError(f"ids of shape {ids.shape} and type {ids.dtype}, not (n, 16) of uint8")
    return ids


def _calls(ids: npt.NDArray[np.uint8], bucket_bits: int) -> Iterator[_Call]:
    """Sort ids by bucket and give each (bucket, field) to one call."""
    prefixes = ids[:, : keys.FIELD_START].copy().view(">u4").ravel()
    buckets = prefixes.astype(np.uint32) >> np.uint32(32 - bucket_bits)
    fields = ids[:, keys.FIELD_START : keys.FIELD_END].copy().view(np.uint64).ravel()
    order = np.lexsort((fields, buckets))
    buckets, fields = buckets[order], fields[order]

    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (buckets[1:] != buckets[:-1]) | (fields[1:] != fields[:-1])
    buckets, fields = buckets[is_first], fields[is_first]

    starts = np.flatnonzero(np.diff(buckets, prepend=buckets[0] ^ 1)).tolist()
    raw = fields.tobytes()
    for start, end in zip(starts, [*starts[1:], len(buckets)], strict=True):
        for at in range(start, end, ROWS_PER_CALL):
            until = min(at + ROWS_PER_CALL, end)
            packed = raw[at * keys.FIELD_BYTES : until * keys.FIELD_BYTES]
            yield _Call(int(buckets[start]), packed)


def _slices(
    calls: Iterable[_Call], max_rows: int = ROWS_PER_SLICE, max_calls: int = CALLS_PER_SLICE
) -> Iterator[list[_Call]]:
    """Cut up what is to do; whoever stops here has taken nothing that was not given out."""
    calls_of_slice: list[_Call] = []
    rows = 0
    for call in calls:
        calls_of_slice.append(call)
        rows += call.rows
        if rows >= max_rows or len(calls_of_slice) >= max_calls:
            yield calls_of_slice
            calls_of_slice, rows = [], 0
    if calls_of_slice:
        yield calls_of_slice


def _reworded(error: Exception, bucket: int) -> Exception:
    """Say what went wrong in words of ours: the store's may quote what it was sent."""
    code, _, rest = str(error).partition(" ")
    if isinstance(error, ResponseError) and code in _CODE_TO_CORRUPTION:
        why, _, _ = rest.partition(" script:")
        return _CODE_TO_CORRUPTION[code](f"bucket {bucket:x} of the store: a record: {why}")
    if isinstance(error, ResponseError):
        kind = code if type(error) is ResponseError else type(error).__name__
        return StoreUnusable(f"the store refuses to write bucket {bucket:x}: {kind}")
    return error if isinstance(error, RedisError) else StoreUnusable(type(error).__name__)


_CODE_TO_CORRUPTION = {"CORRUPTRECORD": CorruptRecord, "NEWERRECORD": NewerRecord}
