"""
Finds opt-outs that only the store knows, and records them in the ledger.

A store holds ids' places: bucket and field. These suffice to hide the person in later stores
(`segments.projection.applied_opt_outs`), to scrub files (`segments.upkeep.scrub.scrubber`) and to
withdraw reports.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import cast

import numpy as np
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ingest.store_names import name_set
from segments.ledger.database.engine import reading
from segments.ledger.privacy import access_requests, audit, opt_outs
from segments.ledger.privacy.audit import COMMAND_LINE, Entry
from segments.ledger.privacy.opt_outs import Taken
from segments.model.identity import ID_BYTES, Id
from segments.model.record import (
    EVERYONE,
    CorruptRecord,
    OptOutAction,
    has_no_opt_out,
    unpack,
)
from segments.store import keys
from segments.upkeep.sweep import buckets_of

_IDS_AT_ONCE = 50_000

_Key = tuple[int, OptOutAction]

Theirs = Mapping[_Key, Collection[Id]]
"""Account and action of an opt-out -> places, as of `keys.id_in_bucket`."""


async def only_in_store(ledger: AsyncEngine, redis: Redis, bucket_bits: int) -> tuple[Theirs, int]:
    """Return opt-outs unknown to the ledger, and the number of unreadable records."""
    return await _only_in_store(redis, bucket_bits, await _said(ledger, bucket_bits))


async def take_over(
    conn: AsyncConnection,
    theirs: Theirs,
    account_ids: Mapping[int, int],
    bucket_bits: int,
    now_s: float,
) -> int:
    """Record opt-outs of the store; return the number of ids."""
    taken = [
        Taken(action, account_ids.get(number), bucket_bits, sorted(ids))
        for (number, action), ids in sorted(theirs.items())
    ]
    await opt_outs.take_over(conn, taken, now_s=now_s)
    erased = {
        id_ for (_, action), ids in theirs.items() if action is OptOutAction.ERASURE for id_ in ids
    }
    reported = await access_requests.ids_reported(conn) if erased else []
    named = [id_ for id_ in reported if _place_of(id_, bucket_bits) in erased]
    await access_requests.withdraw(conn, named)
    count = sum(len(each.ids) for each in taken)
    said = [Entry(f"take over {each.action.name}", times=len(each.ids)) for each in taken]
    await audit.add(conn, COMMAND_LINE, [*said, Entry("reconcile")], now_s=now_s)
    return count


async def _said(ledger: AsyncEngine, bucket_bits: int) -> Mapping[_Key, set[bytes]]:
    """Return names of all ids with an opt-out in the ledger."""
    said: dict[_Key, set[bytes]] = {}
    last: tuple[int, Id] | None = None
    while True:
        async with reading(ledger) as conn:
            page = await opt_outs.said_ids(conn, behind=last, limit=_IDS_AT_ONCE)
        if not page:
            return said
        for seq, account_id, action, known_bits, id_ in page:
            key = EVERYONE if account_id is None else account_id, action
            ids = (
                [id_]
                if known_bits is None
                else keys.ids_in_finer_buckets(id_, known_bits, bucket_bits)
            )
            said.setdefault(key, set()).update(_names(ids, bucket_bits))
            last = seq, id_


def _names(ids: Collection[bytes], bucket_bits: int) -> set[bytes]:
    matrix = np.frombuffer(b"".join(ids), np.uint8).reshape(-1, ID_BYTES)
    return name_set(matrix, bucket_bits)


async def _only_in_store(
    redis: Redis, bucket_bits: int, known: Mapping[_Key, set[bytes]]
) -> tuple[dict[_Key, set[Id]], int]:
    found: dict[_Key, set[Id]] = {}
    unreadable = 0
    async for numbers in buckets_of(redis):
        async with redis.pipeline(transaction=False) as pipeline:
            for number in numbers:
                pipeline.execute_command("HGETALL", keys.bucket_key(number))
            replies = await pipeline.execute()
        for number, reply in zip(numbers, replies, strict=True):
            for field, raw in _records(reply):
                try:
                    said = unpack(raw).opt_outs
                except CorruptRecord:
                    unreadable += 1
                    continue
                name = number.to_bytes(keys.FIELD_START) + field
                for opt_out in said:
                    key = opt_out.account_id, opt_out.action
                    is_known = name in known.get(key, ()) or name in known.get(
                        (EVERYONE, opt_out.action), ()
                    )
                    if not is_known:
                        id_ = Id(keys.id_in_bucket(number, field, bucket_bits))
                        found.setdefault(key, set()).add(id_)
    return found, unreadable


def _records(reply: object) -> Iterator[tuple[bytes, bytes]]:
    """Yield a bucket's fields and records that hold an opt-out or can't be read."""
    # A single server's client returns a dictionary, a Cluster's a flat list.
    pairs: Iterable[tuple[bytes, bytes]]
    if isinstance(reply, dict):
        pairs = reply.items()
    else:
        flat = cast("list[bytes]", reply)
        pairs = zip(flat[::2], flat[1::2], strict=True)
    for field, raw in pairs:
        if not has_no_opt_out(raw):
            yield field, raw


def _place_of(id_: Id, bucket_bits: int) -> bytes:
    """Return the place of an id: all that a store keeps of it."""
    bucket = keys.bucket_of(id_, bucket_bits)
    return keys.id_in_bucket(bucket, keys.field_of(id_), bucket_bits)
