"""
Applies the ledger's opt-outs to the store: all of them, or a few new ones.

    apply_new         some                  a request comes in
    apply_opt_outs    all that wait         the store was down, is new, or is an older copy
    apply_by_server   all that wait         a node of a Cluster is away, or refuses writes
    reapply_opt_outs  all, of some slots    a node of a Cluster may lack any of them

A request is marked in the ledger once no bid shows the person any more, by a near cache
(`segments.store.cache_lease`) or a replacing server (`segments.store.servers.cluster_client`)
either.

The store's `opt_outs` is a promise: *everything up to this number is in here*. The number moves
past a request only if the store had all earlier ones; otherwise `apply_opt_outs` applies them
again, harmlessly. The ledger's `applied_at_s` can't replace the number, since only the store shows
its own loss or restore.
"""

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from itertools import groupby

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ledger import accounts, audiences
from segments.ledger.database.engine import reading
from segments.ledger.privacy import opt_outs
from segments.ledger.privacy.opt_outs import Request
from segments.model.identity import Id
from segments.model.record import EVERYONE, CorruptRecord, OptOut, OptOutAction
from segments.projection.one_ledger import own_meta
from segments.store import keys
from segments.store.cache_lease import wait_out_leases
from segments.store.meta import advance_opt_outs
from segments.store.opt_out_writer import OptOutWriter
from segments.store.reader import Meta, StoreUnusable
from segments.store.replica_reads import wait_for_replicas
from segments.store.servers.masters import Server

_log = logging.getLogger(__name__)

_PAGE = 1000
"""Requests between two updates of the store's number."""

Reach = Mapping[int, frozenset[int]]
"""Account id -> the audiences whose memberships its ERASURE deletes."""


async def apply_new(ledger: AsyncEngine, redis: Redis, requests: Sequence[Request]) -> Set[int]:
    """
    Apply some thousand requests, committed in the ledger, even before waiting ones.

    Returns:
        Numbers of requests that must wait for unreadable records.

    Raises:
        StoreUnusable: Our ledger may not write to the store, or the store refuses writes.
        redis.exceptions.RedisError: The store can't be reached, or the result is unknown.
    """
    meta = await own_meta(ledger, redis)
    async with reading(ledger) as conn:
        reach = await reach_of(conn, requests)
    waiting = await _apply(OptOutWriter(redis, meta), requests, reach)
    await _mark(ledger, redis, requests, waiting)
    done = {request.seq for request in requests} - waiting
    async with reading(ledger) as conn:
        until_seq = await opt_outs.end_of_run(conn, meta.opt_outs, done)
    # `meta` is older than our write: the store had all up to its number.
    if until_seq > meta.opt_outs:
        await advance_opt_outs(redis, until_seq, behind=meta.opt_outs)
    return waiting


async def apply_opt_outs(
    ledger: AsyncEngine, redis: Redis, meta: Meta, writer: OptOutWriter | None = None
) -> int:
    """
    Apply every opt-out of the ledger that the store lacks, oldest first; return their number.

    An unreadable record, which enriches no bid, keeps only its own request waiting: it is logged,
    and tried again. `writer` is the store's.
    """
    writer = writer or OptOutWriter(redis, meta)
    applied = 0
    reached = meta.opt_outs
    all_waiting: set[int] = set()
    async for page, reach in _pages(ledger, meta, behind=meta.opt_outs):
        waiting = await _apply(writer, page, reach)
        await _mark(ledger, redis, page, waiting)
        all_waiting |= waiting
        reached = await _advance(redis, page, all_waiting, reached)
        applied += len(page) - len(waiting)
    return applied


async def reapply_opt_outs(
    ledger: AsyncEngine, redis: Redis, meta: Meta, slots: Sequence[tuple[int, int]]
) -> None:
    """
    Apply all opt-outs in some slots of a Cluster again; `slots` are ranges, first and last.

    Changes neither the store's number nor the ledger's marks.
    """
    await _apply_in_slots(ledger, redis, meta, slots, behind=0)


async def apply_by_server(
    ledger: AsyncEngine, redis: Redis, meta: Meta, servers: Iterable[Server]
) -> tuple[list[Server], Set[int]]:
    """
    Apply every opt-out that a Cluster lacks, to each answering node separately.

    The store's number moves once all nodes take theirs.

    Returns:
        The nodes that have every opt-out of their slots; and as `apply_new`.
    """
    well: list[Server] = []
    waiting: set[int] = set()
    for server in servers:
        with suppress(StoreUnusable, RedisError, OSError):
            waiting |= await _apply_in_slots(
                ledger, redis, meta, server.slots, behind=meta.opt_outs
            )
            well.append(server)
    return well, waiting


async def mark_applied_in(
    ledger: AsyncEngine,
    redis: Redis,
    meta: Meta,
    servers: Iterable[Server],
    waiting: Set[int],
    until_seq: int,
) -> None:
    """
    Mark the requests as applied whose ids all lie on servers that have them.

    `servers` and `waiting` are from `apply_by_server`, `until_seq` the ledger's last before that.
    """
    is_well = _slots_of([each for server in servers for each in server.slots])
    slot = _slot_by(meta)
    async for page, _ in _pages(ledger, meta, behind=meta.opt_outs):
        done = [
            request
            for request in page
            if request.seq <= until_seq and all(is_well[slot(id_)] for id_ in request.ids)
        ]
        if done:
            await _mark(ledger, redis, done, waiting)


async def _apply_in_slots(
    ledger: AsyncEngine,
    redis: Redis,
    meta: Meta,
    slots: Sequence[tuple[int, int]],
    *,
    behind: int,
) -> Set[int]:
    """
    Apply opt-outs in some slots: all after a number, and waiting ones; return as `apply_new`.
    """
    waiting: set[int] = set()
    is_wanted, slot = _slots_of(slots), _slot_by(meta)
    writer = OptOutWriter(redis, meta)
    async for page, reach in _pages(ledger, meta, behind=behind):
        there = [
            request._replace(ids=tuple(id_ for id_ in request.ids if is_wanted[slot(id_)]))
            for request in page
        ]
        waiting |= await _apply(writer, [request for request in there if request.ids], reach)
    return waiting


async def _pages(
    ledger: AsyncEngine, meta: Meta, *, behind: int
) -> AsyncIterator[tuple[list[Request], Reach]]:
    after_seq = 0
    while True:
        async with reading(ledger) as conn:
            page = placed(
                await opt_outs.unapplied(conn, behind, after_seq=after_seq, limit=_PAGE),
                meta.bucket_bits,
            )
            reach = await reach_of(conn, page)
        if not page:
            return
        yield page, reach
        after_seq = page[-1].seq


def _slots_of(ranges: Iterable[tuple[int, int]]) -> bytearray:
    """Return a flag for each slot: is it in the ranges?"""
    are_in = bytearray(keys.SLOTS)
    for first, last in ranges:
        are_in[first : last + 1] = b"\1" * (last + 1 - first)
    return are_in


def _slot_by(meta: Meta) -> Callable[[Id], int]:
    def slot(id_: Id) -> int:
        return keys.slot_of(keys.bucket_key(keys.bucket_of(id_, meta.bucket_bits)))

    return slot


def placed(page: Sequence[Request], bucket_bits: int) -> list[Request]:
    """Return requests with truncated ids replaced by an id in each possible bucket."""
    return [
        request
        if request.bucket_bits is None
        else request._replace(
            ids=tuple(
                Id(each)
                for id_ in request.ids
                for each in keys.ids_in_finer_buckets(id_, request.bucket_bits, bucket_bits)
            )
        )
        for request in page
    ]


async def _mark(
    ledger: AsyncEngine, redis: Redis, requests: Sequence[Request], waiting: Set[int]
) -> None:
    # To clients that poll the request's status, a mark is an acknowledgement.
    await wait_for_replicas(redis)
    await wait_out_leases(redis)
    # Before the store's number moves: after a crash, again.
    async with ledger.begin() as conn:
        done = [request.seq for request in requests if request.seq not in waiting]
        await opt_outs.mark_applied(conn, done, time.time())


async def _advance(
    redis: Redis, requests: Sequence[Request], waiting: Set[int], behind: int
) -> int:
    """
    Move the store's number to before the first request that waits; return it, from `behind` on.
    """
    bound = min(waiting, default=None)
    done = [request.seq for request in requests if bound is None or request.seq < bound]
    if not done:
        return behind
    await advance_opt_outs(redis, done[-1], behind=behind)
    return max(behind, done[-1])


async def _apply(writer: OptOutWriter, page: Sequence[Request], reach: Reach) -> set[int]:
    """Apply requests, many in a call; return the numbers of those that must wait."""
    waiting: set[int] = set()
    for _, alike in groupby(page, key=lambda request: (request.account_id, request.action)):
        requests = list(alike)
        ids = [id_ for request in requests for id_ in request.ids]
        try:
            await _opt_out(writer, ids, requests[-1], reach)
        except CorruptRecord:
            for request in requests:
                waiting |= await _apply_id_by_id(writer, request, reach)
    return waiting


async def _apply_id_by_id(writer: OptOutWriter, request: Request, reach: Reach) -> set[int]:
    """Apply a request id by id, as its batch contains an unreadable record."""
    waiting = set()
    for id_ in request.ids:
        try:
            await _opt_out(writer, [id_], request, reach)
        except CorruptRecord as error:
            _log.error("opt-out %s can't be applied: %s", request.transaction_id, error)
            waiting.add(request.seq)
    return waiting


async def _opt_out(writer: OptOutWriter, ids: Sequence[Id], request: Request, reach: Reach) -> None:
    account_id = request.account_id
    await writer.opt_out(
        ids,
        OptOut(EVERYONE if account_id is None else account_id, request.action),
        None if account_id is None else reach.get(account_id),
        number=request.seq,
        transaction_id=request.transaction_id,
    )


async def reach_of(conn: AsyncConnection, requests: Sequence[Request]) -> Reach:
    """Return the audiences of account-scoped erasures among some requests."""
    erasing = {
        request.account_id
        for request in requests
        if request.action is OptOutAction.ERASURE and request.account_id is not None
    }
    if not erasing:
        return {}
    tree = await accounts.tree(conn)
    return {
        account_id: await audiences.ids_of(conn, tree.erased_by(account_id))
        for account_id in erasing
    }
