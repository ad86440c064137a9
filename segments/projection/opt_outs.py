"""
A person's no: recorded in the ledger, applied to the store.

    record_opt_out    ledger, then store        a request comes in
    put_into_force    store                     ... which a door has recorded itself
    apply_opt_outs    ledger -> store           the store lacks requests: it was
                                                down, is new, or is an older copy
    reapply_opt_outs  ledger -> some slots      a Cluster's node may lack any of them

A request is acknowledged once the ledger has it, and normally once the store
has it too, so that the first bid after the acknowledgement is suppressed: also
where records are cached, see `segments.store.cache_lease`; and where another server takes
the place of the one that would have got it, see `segments.store.servers.cluster_client`.

The store's `opt_outs` is a promise: *everything up to this number is in here*.
It moves past a request only when the store had all before it; whoever finds
that it had not leaves the number alone, and `apply_opt_outs` goes over them
again. That costs nothing but time: opt-outs are sets that only grow, so
applying one twice, or two in another order, changes nothing. The ledger's
`applied_at_s` finds what waits, too, but it can't replace the number: only a
store itself knows that it was lost, or set back to an older copy.
"""

import logging
import time
from collections.abc import Mapping, Sequence, Set
from itertools import groupby
from typing import NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ledger import accounts, audiences
from segments.ledger.database.engine import reading
from segments.ledger.privacy import opt_outs
from segments.ledger.privacy.opt_outs import Request
from segments.model.identity import Id, IdentifierKind
from segments.model.record import EVERYONE, CorruptRecord, OptOut, OptOutAction
from segments.store import keys
from segments.store.cache_lease import wait_out_leases
from segments.store.meta import advance_opt_outs
from segments.store.reader import Meta, StoreUnusable, read_meta
from segments.store.writer import Writer

_log = logging.getLogger(__name__)

_PAGE = 1000
"""Requests that are applied between two steps of the store's number."""

_Reach = Mapping[int, frozenset[int]]
"""An account's id -> the audiences whose memberships its ERASURE deletes."""


class Receipt(NamedTuple):
    """
    What became of requests; in the ledger they are for good.

    `waits_because` is empty if the store has them too. Otherwise it says why
    not, and they are applied before anything else is written to the store.
    """

    transaction_ids: tuple[str, ...]
    waits_because: str = ""


async def record_opt_out(
    ledger: AsyncEngine,
    redis: Redis,
    action: OptOutAction,
    ids: Sequence[tuple[IdentifierKind, Id]],
    account_id: int | None = None,
    *,
    jurisdiction: str | None = None,
    submitter: str | None = None,
) -> Receipt:
    """
    Record one person's opt-out, and apply it to the store if that can be written.

    Args:
        ledger: The system of record.
        redis: The store.
        action: RESTRICT, or ERASURE, which deletes as well.
        ids: All ids of this one person, at least one.
        account_id: Who submitted it, which says how far it reaches; `None`: global.
        jurisdiction: As submitted; only recorded.
        submitter: As submitted; only recorded.

    Raises:
        Refusal: The request can't be recorded as it is.
    """
    return await record_opt_outs(
        ledger,
        redis,
        action,
        [ids],
        account_id,
        jurisdiction=jurisdiction,
        submitter=submitter,
    )


async def record_opt_outs(
    ledger: AsyncEngine,
    redis: Redis,
    action: OptOutAction,
    persons: Sequence[Sequence[tuple[IdentifierKind, Id]]],
    account_id: int | None = None,
    *,
    jurisdiction: str | None = None,
    submitter: str | None = None,
) -> Receipt:
    """
    Record a request for each of some persons, all of them or none, like `record_opt_out`.

    Raises:
        Refusal: One of the requests can't be recorded as it is.
    """
    async with ledger.begin() as conn:
        requests = await opt_outs.record(
            conn,
            action,
            persons,
            account_id,
            jurisdiction=jurisdiction,
            submitter=submitter,
            now_s=time.time(),
        )
    return await put_into_force(ledger, redis, requests)


async def put_into_force(ledger: AsyncEngine, redis: Redis, requests: Sequence[Request]) -> Receipt:
    """
    Apply requests that were just recorded to the store, if that can be written.

    Args:
        ledger: Where they have been committed.
        redis: The store.
        requests: In their order, with nothing between them.
    """
    transaction_ids = tuple(request.transaction_id for request in requests)
    try:
        waiting = await _apply_new(ledger, redis, requests)
    except StoreUnusable as error:
        return Receipt(transaction_ids, str(error))
    except (RedisError, OSError) as error:
        # By its type only: what a connection error says may hold the store's URL.
        return Receipt(transaction_ids, f"the store can't be written ({type(error).__name__})")
    if waiting:
        return Receipt(transaction_ids, "the store holds records of them that can't be read")
    return Receipt(transaction_ids)


async def apply_opt_outs(
    ledger: AsyncEngine, redis: Redis, meta: Meta, writer: Writer | None = None
) -> int:
    """
    Apply every opt-out of the ledger that the store lacks, oldest first.

    A record that can't be read keeps only its own request waiting: nothing can
    be added to it, and the bid path does not enrich from it. It is logged and
    tried again the next time.

    Args:
        ledger: The system of record.
        redis: The store.
        meta: As the store has it now.
        writer: Of the store; made here if `None`.

    Returns:
        How many requests were applied.
    """
    writer = writer or Writer(redis, meta)
    after_seq = applied = 0
    reached = meta.opt_outs
    all_waiting: set[int] = set()
    while True:
        async with reading(ledger) as conn:
            page = await opt_outs.unapplied(conn, meta.opt_outs, after_seq=after_seq, limit=_PAGE)
            reach = await _reach(conn, page)
        if not page:
            return applied
        waiting = await _apply(writer, page, reach)
        await _mark(ledger, redis, page, waiting)
        all_waiting |= waiting
        reached = await _advance(redis, page, all_waiting, reached)
        after_seq = page[-1].seq
        applied += len(page) - len(waiting)


async def reapply_opt_outs(
    ledger: AsyncEngine, redis: Redis, meta: Meta, slots: Sequence[tuple[int, int]]
) -> None:
    """
    Apply all opt-outs that there ever were of ids in some slots of a Cluster, once more.

    Those that are recorded meanwhile, too. The store's number and the ledger's notes
    are left alone.

    Args:
        ledger: The system of record.
        redis: The store.
        meta: As the store has it now.
        slots: First and last of each range.
    """
    is_wanted = bytearray(keys.SLOTS)
    for first, last in slots:
        is_wanted[first : last + 1] = b"\1" * (last + 1 - first)

    def slot(id_: Id) -> int:
        return keys.slot_of(keys.bucket_key(keys.bucket_of(id_, meta.bucket_bits)))

    writer = Writer(redis, meta)
    after_seq = 0
    while True:
        async with reading(ledger) as conn:
            page = await opt_outs.unapplied(conn, 0, after_seq=after_seq, limit=_PAGE)
            reach = await _reach(conn, page)
        if not page:
            return
        there = [
            request._replace(ids=tuple(id_ for id_ in request.ids if is_wanted[slot(id_)]))
            for request in page
        ]
        await _apply(writer, [request for request in there if request.ids], reach)
        after_seq = page[-1].seq


async def _apply_new(ledger: AsyncEngine, redis: Redis, requests: Sequence[Request]) -> set[int]:
    """Apply requests that were just recorded, whatever others wait before them."""
    meta = await read_meta(redis)
    async with reading(ledger) as conn:
        reach = await _reach(conn, requests)
        previous_seq = await opt_outs.last_seq(conn, before_seq=requests[0].seq)
    waiting = await _apply(Writer(redis, meta), requests, reach)
    await _mark(ledger, redis, requests, waiting)
    # Read before we wrote: all up to this number was in the store then already.
    if meta.opt_outs >= previous_seq:
        await _advance(redis, requests, waiting, previous_seq)
    return waiting


async def _mark(
    ledger: AsyncEngine, redis: Redis, requests: Sequence[Request], waiting: Set[int]
) -> None:
    # A mark is an acknowledgement, to whoever asks how a request stands.
    await wait_out_leases(redis)
    # Before the store's number moves: were we killed in between, it still leads
    # back here.
    async with ledger.begin() as conn:
        done = [request.seq for request in requests if request.seq not in waiting]
        await opt_outs.mark_applied(conn, done, time.time())


async def _advance(
    redis: Redis, requests: Sequence[Request], waiting: Set[int], behind: int
) -> int:
    """
    Move the store's number to the last request before the first that waits.

    Returns:
        Where the number is then, if it was at `behind`.
    """
    bound = min(waiting, default=None)
    done = [request.seq for request in requests if bound is None or request.seq < bound]
    if not done:
        return behind
    await advance_opt_outs(redis, done[-1], behind=behind)
    return max(behind, done[-1])


async def _apply(writer: Writer, page: Sequence[Request], reach: _Reach) -> set[int]:
    """Apply requests, many in one call. Return the numbers of those that must wait."""
    waiting: set[int] = set()
    for _, alike in groupby(page, key=lambda request: (request.account_id, request.action)):
        requests = list(alike)
        ids = [id_ for request in requests for id_ in request.ids]
        try:
            await _opt_out(writer, ids, requests[0], reach)
        except CorruptRecord:
            for request in requests:
                waiting |= await _apply_id_by_id(writer, request, reach)
    return waiting


async def _apply_id_by_id(writer: Writer, request: Request, reach: _Reach) -> set[int]:
    """Apply what can be applied of a request that has an unreadable record, or its neighbours."""
    waiting = set()
    for id_ in request.ids:
        try:
            await _opt_out(writer, [id_], request, reach)
        except CorruptRecord as error:
            _log.error("opt-out %s can't be applied: %s", request.transaction_id, error)
            waiting.add(request.seq)
    return waiting


async def _opt_out(writer: Writer, ids: Sequence[Id], request: Request, reach: _Reach) -> None:
    account_id = request.account_id
    if account_id is None:
        await writer.opt_out(ids, OptOut(EVERYONE, request.action), None)
    else:
        await writer.opt_out(ids, OptOut(account_id, request.action), reach.get(account_id))


async def _reach(conn: AsyncConnection, requests: Sequence[Request]) -> _Reach:
    """Return what the erasures among some requests delete, if not everything."""
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
