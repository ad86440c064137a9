"""
Applies published files to the store that bids read.

    a full        to a closed store, as in a rebuild: wiped, filled, opened last
    an increment  to an open store: its opt-outs first, then its buckets, its catalog last

A full may lack an opt-out in force in the store, so the store is closed from the first write to
after the last increment; meanwhile bids pass through as `store_down`. An increment lacks nothing
that its predecessor has (`segments.publish.publisher`).
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

from redis.asyncio import Redis

from segments.model.catalog import CatalogSnapshot
from segments.model.identity import Id
from segments.model.record import EVERYONE, CorruptRecord, OptOut
from segments.store import keys, rebuild_claim
from segments.store.bulk_commands import replies_to
from segments.store.catalog_writer import write_catalog
from segments.store.meta import advance_opt_outs
from segments.store.opt_out_writer import OptOutWriter
from segments.store.published.form import (
    Bucket,
    DamagedFile,
    FileReader,
    Header,
    Kind,
    Part,
    PublishedOptOut,
)
from segments.store.reader import Meta, read_version

SETTLE_S: Final = 5.0
"""Of bids' use of a store that was just closed: several of their probes."""

_BUCKETS_AT_ONCE: Final = 64
_MAX_BYTES_AT_ONCE: Final = 256 << 10
"""A round trip: a millisecond of the server's time."""


class State(NamedTuple):
    """The state of a store."""

    ledger: str
    number: int
    bucket_bits: int
    opt_outs: int

    @classmethod
    def of(cls, header: Header) -> "State":
        """Return the state that a file leads to."""
        return cls(header.ledger, header.number, header.bucket_bits, header.opt_outs)


def check_readable(path: Path) -> None:
    """
    Check that this version reads a file, before the store is closed for it.

    Raises:
        segments.store.published.form.UnreadableFile: It does not.
    """
    with path.open("rb") as file:
        FileReader(file)


async def fill(redis: Redis, full: Path, increments: Sequence[Path], *, settle_s: float) -> State:
    """
    Fill the store anew from a full and the increments after it.

    The store is ours alone, the files' checksums are verified, and the increments in order.
    `settle_s`: of bids' reads of a store that was just closed.

    Raises:
        segments.store.published.form.UnreadableFile: A file is damaged; the store stays closed.
        redis.exceptions.RedisError: The store is away; it stays closed.
    """
    name = await rebuild_claim.take(redis)
    await asyncio.sleep(settle_s)
    await rebuild_claim.wipe(redis)
    state, catalog = await _apply(redis, full, None, name)
    for increment in increments:
        state, newer = await _apply(redis, increment, state, name)
        catalog = newer or catalog
    if catalog is None:
        raise DamagedFile("a full without a catalog")
    await _show(redis, catalog, state)
    await rebuild_claim.hand_over(redis, name, Meta(state.bucket_bits, state.opt_outs))
    return state


async def apply_increment(redis: Redis, increment: Path, state: State) -> State:
    """
    Bring an open store to the next state.

    Idempotent, if repeated from the beginning.

    Raises:
        As `fill`; writes so far are right, but incomplete.
    """
    then, catalog = await _apply(redis, increment, state, None)
    if catalog is not None:
        await _show(redis, catalog, then)
    await advance_opt_outs(redis, then.opt_outs, behind=state.opt_outs)
    return then


async def _apply(
    redis: Redis, path: Path, state: State | None, name: str | None
) -> tuple[State, CatalogSnapshot | None]:
    catalog = None
    with path.open("rb") as file:
        reader = FileReader(file)
        header = reader.header
        _check(header, state)
        writer = OptOutWriter(redis, Meta(header.bucket_bits, header.opt_outs), name)
        async with aclosing(_read_ahead(reader.parts())) as parts:
            async for part in parts:
                if isinstance(part, CatalogSnapshot):
                    catalog = part
                elif part and isinstance(part[0], Bucket):
                    await _write_buckets(redis, part, header.bucket_bits)  # type: ignore[arg-type] # all are alike
                else:
                    await _opt_out(writer, part, header.bucket_bits)  # type: ignore[arg-type] # likewise
    return State.of(header), catalog


async def _read_ahead(parts: Iterator[Part]) -> AsyncGenerator[Part]:
    """Yield parts; a thread reads the next meanwhile."""
    reading = asyncio.ensure_future(asyncio.to_thread(next, parts, None))
    try:
        # Not awaited: a cancelled thread would go on in a file that we close.
        await asyncio.wait({reading})
        while (part := reading.result()) is not None:
            reading = asyncio.ensure_future(asyncio.to_thread(next, parts, None))
            yield part
            await asyncio.wait({reading})
    finally:
        await asyncio.wait({reading})
        reading.exception()  # retrieved, even if another exception is raised


def _check(header: Header, state: State | None) -> None:
    if state is None:
        if header.kind is not Kind.FULL:
            raise DamagedFile("an increment in the place of a full")
        return
    is_next = (
        header.behind == state.number
        and header.ledger == state.ledger
        and header.bucket_bits == state.bucket_bits
        and header.opt_outs >= state.opt_outs
    )
    if not is_next:
        raise DamagedFile("an increment that does not follow the store's state")


async def _write_buckets(redis: Redis, buckets: Sequence[Bucket], bucket_bits: int) -> None:
    for some in _slices(buckets):
        if any(number >> bucket_bits for number, _ in some):
            raise DamagedFile("a bucket that does not exist")
        await replies_to(
            redis,
            [
                (b"RESTORE", keys.bucket_key(number), b"0", payload, b"REPLACE")
                if payload
                else (b"UNLINK", keys.bucket_key(number))
                for number, payload in some
            ],
        )


def _slices(buckets: Sequence[Bucket]) -> Iterable[Sequence[Bucket]]:
    at = 0
    while at < len(buckets):
        end, size = at, 0
        while end < len(buckets) and end - at < _BUCKETS_AT_ONCE and size < _MAX_BYTES_AT_ONCE:
            size += len(buckets[end].payload)
            end += 1
        yield buckets[at:end]
        at = end


async def _opt_out(writer: OptOutWriter, said: Sequence[PublishedOptOut], bucket_bits: int) -> None:
    for (account_id, action), alike in groupby(
        said, key=lambda opt_out: (opt_out.account_id, opt_out.action)
    ):
        ids = [Id(keys.id_in_bucket(each.bucket, each.field, bucket_bits)) for each in alike]
        opt_out = OptOut(account_id, action)
        # An account's ERASURE only hides: its bucket follows.
        erased = None if account_id == EVERYONE else ()
        try:
            await writer.opt_out(ids, opt_out, erased)
        except CorruptRecord:
            for id_ in ids:
                try:
                    await writer.opt_out([id_], opt_out, erased)
                except CorruptRecord:
                    continue  # bids do not enrich from this record


async def _show(redis: Redis, catalog: CatalogSnapshot, state: State) -> None:
    shown = await read_version(redis)
    await write_catalog(redis, shown, catalog._replace(version=state.number))
    await redis.publish(keys.CHANGED.decode(), str(state.number))
