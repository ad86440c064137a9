"""
Reads buckets for publication: HGETALL, filter, RESTORE payload.

Opt-outs of the ledger that the store may lack are added here.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, compress, islice
from typing import Final, NamedTuple, cast

from redis.asyncio import Redis

from segments.model.record import CorruptRecord, OptOut, Record, opted_out, pack, unpack
from segments.publish.part import Scope, are_whole, published
from segments.store import keys
from segments.store.bulk_commands import replies_to
from segments.store.published.form import Bucket
from segments.store.restore_payload import payload_of, record_entry

BUCKETS_AT_ONCE: Final = 32
"""Buckets in a round trip: half a millisecond of the server's time, as in a sweep."""

_KEPT: Final = 200_000
"""Records whose form is remembered: all of few histories, and some of random ones in vain."""


class Missing(NamedTuple):
    """An opt-out of an id that the store may lack."""

    opt_out: OptOut
    erased_audience_ids: Collection[int] | None
    """As `segments.model.record.opted_out` takes them."""


MissingOptOuts = Mapping[int, Mapping[bytes, Sequence[Missing]]]
"""Bucket number -> field -> missing opt-outs."""


class BucketReader:
    """
    Reads buckets in their published form; remembers that of records seen before.

    `scope` says which memberships and opt-outs; `None`: all.
    """

    def __init__(self, redis: Redis, scope: Scope | None) -> None:
        self._redis = redis
        self._scope = scope
        self._raw_to_entry: dict[bytes, bytes] = {}

    async def read(
        self, numbers: Iterable[int], missing: MissingOptOuts, *, pauses: bool = False
    ) -> AsyncGenerator[list[Bucket]]:
        """
        Yield buckets in batches, also those emptied by the filter.

        The store reads a batch while another is filtered. Close the generator
        (`contextlib.aclosing`) if the consumer may fail.

        `pauses` leaves the store to bids for as long as each batch took.
        """
        if len(self._raw_to_entry) >= _KEPT:
            self._raw_to_entry.clear()
        if pauses:
            for some in _batched(numbers):
                began_s = time.monotonic()
                yield self._published(some, await self._held(some), missing)
                await asyncio.sleep(time.monotonic() - began_s)
            return
        batches = _batched(numbers)
        some_or_none = next(batches, None)
        reading: asyncio.Task[list[list[bytes]]] | None = None
        try:
            while some_or_none is not None:
                some = some_or_none
                held = await (reading or self._held(some))
                some_or_none = next(batches, None)
                if some_or_none is not None:
                    reading = asyncio.create_task(self._held(some_or_none))
                yield self._published(some, held, missing)
        finally:
            if reading is not None and not reading.done():
                reading.cancel()
                await asyncio.wait((reading,))

    def _published(
        self, numbers: Sequence[int], held: Sequence[list[bytes]], missing: MissingOptOuts
    ) -> list[Bucket]:
        return [
            Bucket(number, self._payload(rows, missing.get(number)))
            for number, rows in zip(numbers, held, strict=True)
        ]

    async def _held(self, numbers: Sequence[int]) -> list[list[bytes]]:
        """Return fields and records of some buckets, by turns."""
        return await replies_to(
            self._redis, [(b"HGETALL", keys.bucket_key(number)) for number in numbers]
        )

    def _payload(
        self, held: list[bytes], missing: Mapping[bytes, Sequence[Missing]] | None
    ) -> bytes:
        if missing:
            held = _with_opt_outs(held, missing)
        fields, entries = held[::2], self._entries(held[1::2])
        if not all(entries):
            fields = list(compress(fields, entries))
            entries = list(filter(None, entries))
        return payload_of(fields, entries) if fields else b""

    def _entries(self, raws: Sequence[bytes]) -> list[bytes]:
        """Return the published form of some records in a payload; empty: not published."""
        known = self._raw_to_entry
        found = list(map(known.get, raws))
        if None not in found:
            return cast("list[bytes]", found)
        if are_whole(raws, self._scope):
            entries = list(map(record_entry, raws))
        else:
            entries = [
                self._entry(raw) if entry is None else entry
                for raw, entry in zip(raws, found, strict=True)
            ]
        if len(known) < _KEPT:
            known.update(zip(raws, entries, strict=True))
        return entries

    def _entry(self, raw: bytes) -> bytes:
        shown = published(raw, self._scope)
        return record_entry(shown) if shown else b""


def _with_opt_outs(
    held: Sequence[bytes], missing: Mapping[bytes, Sequence[Missing]]
) -> list[bytes]:
    field_to_raw = dict(zip(held[::2], held[1::2], strict=True))
    for field, wanted in missing.items():
        field_to_raw[field] = _opted_out(field_to_raw.get(field), wanted)
    return list(chain.from_iterable(field_to_raw.items()))


def _opted_out(raw: bytes | None, missing: Sequence[Missing]) -> bytes:
    try:
        record = Record() if raw is None else unpack(raw)
    except CorruptRecord:
        assert raw is not None, "nothing can be read"
        return raw
    for opt_out, erased in missing:
        record = opted_out(record, opt_out, erased)
    return pack(record)


def _batched(numbers: Iterable[int]) -> Iterator[Sequence[int]]:
    iterator = iter(numbers)
    while some := list(islice(iterator, BUCKETS_AT_ONCE)):
        yield some
