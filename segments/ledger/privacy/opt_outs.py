"""
Queries of data subject requests: persons' opt-outs, in order of arrival.

A request's `seq` is its place in that order, and in that of the commits: a reader that sees
request 7 sees every committed request before it, and none appears before it later. On PostgreSQL
`record` makes writers take turns.
"""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple
from uuid import uuid4

from sqlalchemy import ColumnElement, and_, func, insert, or_, select, union, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.clocks import CLOCKS_DIFFER_S
from segments.ledger.privacy import access_requests, audit
from segments.ledger.privacy.audit import COMMAND_LINE, Who
from segments.ledger.revision import lock_catalog
from segments.ledger.tables import data_subject_ids, data_subject_requests
from segments.model.identity import Id, IdentifierKind
from segments.model.record import OptOutAction
from segments.model.refusal import Refusal

_requests = data_subject_requests
_JURISDICTION_CHARS = 16
_SUBMITTER_CHARS = 256
_IDS_AT_ONCE = 1000

_MOMENT_S = 1.0
"""Younger requests are still on their way, for some milliseconds."""

SAME_FOR_S = 3600.0
"""How long a request in force still stands for its repetitions."""


class Request(NamedTuple):
    """A person's opt-out, with all ids that were submitted together."""

    seq: int
    transaction_id: str
    action: OptOutAction
    account_id: int | None  # the submitter; `None`: global
    ids: tuple[Id, ...]
    is_new: bool = False  # recorded just now, not a repetition
    bucket_bits: int | None = None  # known bits of each id, its bucket; `None`: all


class Taken(NamedTuple):
    """Opt-outs that only a store knew, of an account and action: see `take_over`."""

    action: OptOutAction
    account_id: int | None
    bucket_bits: int
    ids: Sequence[Id]


class SaidId(NamedTuple):
    """An id of an opt-out."""

    seq: int
    account_id: int | None
    action: OptOutAction
    bucket_bits: int | None  # as in `Request`
    id: Id


class Waiting(NamedTuple):
    """Recorded requests that are not in force yet."""

    requests: int
    oldest_s: float
    """The age of the oldest; 0 if there is none."""


class OptOutSource(NamedTuple):
    """The origin of a request."""

    who: Who = COMMAND_LINE
    token_id: int | None = None
    key_id: int | None = None
    callback: str | None = None
    tails: Mapping[Id, bytes] = MappingProxyType({})
    """The rest of the submitted hash, by e-mail id."""
    reference: str | None = None
    """The privacy desk's own, such as its ticket."""


OF_STORE = "store"
"""The kind of an id known only by its place in a store."""

TAKEN_OVER = "taken over from the store"

IDS_OF_TAKEN = 1000
"""Ids in a request that was taken over; a store does not tell persons apart."""

BY_HAND = OptOutSource()
"""The operator's command line."""


async def record(
    conn: AsyncConnection,
    action: OptOutAction,
    persons: Sequence[Sequence[tuple[IdentifierKind, Id]]],
    account_id: int | None = None,
    *,
    jurisdiction: str | None = None,
    submitter: str | None = None,
    source: OptOutSource = BY_HAND,
    now_s: float,
) -> list[Request]:
    """
    Record an opt-out of each person, in order, and in the audit trail.

    A repetition (same ids, action, scope and jurisdiction, by the same token or key, or on the
    command line) returns the first, until that has been in force for `SAME_FOR_S`. So an opt-out
    that is not in force yet may be repeated. Every ERASURE, a repetition too, withdraws the reports
    on the same ids.

    `account_id` is the submitter and the scope; `None`: global. Jurisdiction and submitter are as
    submitted. Duplicate ids of a person are kept once.

    Raises:
        Refusal: No person, a person without ids, or a text that is too long.
    """
    every_person = [{id_: kind for kind, id_ in ids} for ids in persons]
    if not every_person or not all(every_person):
        raise Refusal("an opt-out of no person: no id was given")
    _check_chars("jurisdiction", jurisdiction, _JURISDICTION_CHARS)
    _check_chars("submitter", submitter, _SUBMITTER_CHARS)
    # Held until the commit, so that numbers become visible in order.
    await lock_catalog(conn)
    if action is OptOutAction.ERASURE:
        await access_requests.withdraw(conn, [id_ for ids in every_person for id_ in ids])
    alike = [
        _requests.c.action == action.name,
        _requests.c.account_id.is_not_distinct_from(account_id),
        _requests.c.jurisdiction.is_not_distinct_from(jurisdiction),
        _requests.c.token_id.is_not_distinct_from(source.token_id),
        _requests.c.key_id.is_not_distinct_from(source.key_id),
    ]
    ids_to_request = await _recorded(conn, every_person, and_(*alike), now_s - SAME_FOR_S)
    new = {frozenset(ids): ids for ids in every_person if frozenset(ids) not in ids_to_request}
    rows = [
        {
            "transaction_id": uuid4().hex,
            "action": action.name,
            "account_id": account_id,
            "jurisdiction": jurisdiction,
            "submitter": submitter,
            "reference": source.reference,
            "callback": source.callback,
            "token_id": source.token_id,
            "key_id": source.key_id,
            "created_at_s": now_s,
        }
        for _ in new
    ]
    if rows:
        previous_seq = await last_seq(conn)
        await conn.execute(insert(_requests), rows)
        # No other transaction inserts before our commit.
        inserted = await conn.scalars(
            select(_requests.c.seq).where(_requests.c.seq > previous_seq).order_by(_requests.c.seq)
        )
        for seq, row, ids in zip(inserted, rows, new, strict=True):
            ids_to_request[ids] = Request(
                seq, str(row["transaction_id"]), action, account_id, tuple(new[ids]), is_new=True
            )
        await conn.execute(
            insert(data_subject_ids),
            [
                {
                    "seq": ids_to_request[ids].seq,
                    "id": id_,
                    "kind": kind.value,
                    "tail": source.tails.get(id_),
                }
                for ids, id_to_kind in new.items()
                for id_, kind in id_to_kind.items()
            ],
        )
        done = [
            audit.Entry(
                action.name,
                ids=new[ids].keys(),
                scope_id=account_id,
                transaction_id=ids_to_request[ids].transaction_id,
            )
            for ids in new
        ]
        await audit.add(conn, source.who, done, now_s=now_s)
    return [ids_to_request[frozenset(ids)] for ids in every_person]


async def _recorded(
    conn: AsyncConnection,
    every_person: Sequence[Mapping[Id, IdentifierKind]],
    alike: ColumnElement[bool],
    applied_after_s: float,
) -> dict[frozenset[Id], Request]:
    """Return these persons' requests not in force, or only since `applied_after_s`."""
    # A person's first id leads to few requests.
    first_ids = [next(iter(ids)) for ids in every_person]
    recent = or_(_requests.c.applied_at_s.is_(None), _requests.c.applied_at_s > applied_after_s)
    seqs: set[int] = set()
    for at in range(0, len(first_ids), _IDS_AT_ONCE):
        seqs.update(
            await conn.scalars(
                select(_requests.c.seq)
                .join(data_subject_ids, data_subject_ids.c.seq == _requests.c.seq)
                .where(data_subject_ids.c.id.in_(first_ids[at : at + _IDS_AT_ONCE]), alike, recent)
            )
        )
    wanted = {frozenset(ids) for ids in every_person}
    in_order = sorted(seqs, reverse=True)  # the oldest comes last, and wins
    return {
        frozenset(request.ids): request
        for at in range(0, len(in_order), _IDS_AT_ONCE)
        for request in reversed(await _requests_of(conn, in_order[at : at + _IDS_AT_ONCE]))
        if frozenset(request.ids) in wanted
    }


async def unapplied(
    conn: AsyncConnection, store_seq: int, *, after_seq: int, limit: int
) -> list[Request]:
    """
    Return a page of requests after `after_seq` that the store may lack, oldest first.

    By its own account the store has all up to `store_seq`.
    """
    # A union of two index scans: an OR would read the whole table every second.
    seqs = union(
        select(_requests.c.seq).where(_requests.c.seq > max(store_seq, after_seq)),
        select(_requests.c.seq).where(
            _requests.c.applied_at_s.is_(None), _requests.c.seq > after_seq
        ),
    )
    page = list(await conn.scalars(seqs.order_by("seq").limit(limit)))
    return await _requests_of(conn, page)


async def waiting(conn: AsyncConnection, now_s: float) -> Waiting:
    """
    Count the requests not in force, except those younger than `_MOMENT_S`.

    Requests dated in the future count: the clock was set back.
    """
    created_at_s = _requests.c.created_at_s
    is_old = or_(created_at_s <= now_s - _MOMENT_S, created_at_s > now_s + CLOCKS_DIFFER_S)
    unapplied = _requests.c.applied_at_s.is_(None), is_old
    asked = select(func.count(), func.min(_requests.c.created_at_s)).where(*unapplied)
    count, since_s = (await conn.execute(asked)).one()
    return Waiting(count, 0.0 if since_s is None else max(0.0, now_s - since_s))


async def are_applied(conn: AsyncConnection, transaction_ids: Sequence[str]) -> bool:
    """Tell whether all of these requests are in force."""
    for at in range(0, len(transaction_ids), _IDS_AT_ONCE):
        waiting = select(_requests.c.seq).where(
            _requests.c.transaction_id.in_(transaction_ids[at : at + _IDS_AT_ONCE]),
            _requests.c.applied_at_s.is_(None),
        )
        if await conn.scalar(waiting.limit(1)) is not None:
            return False
    return True


async def take_over(conn: AsyncConnection, taken: Sequence[Taken], *, now_s: float) -> int:
    """
    Record opt-outs that only the store knows, for a later store; return how many requests.

    Their places in the store are known, not the persons: no search finds them. The transaction
    has the catalog's turn, after all known numbers are reserved.
    """
    made = 0
    for each in taken:
        for at in range(0, len(each.ids), IDS_OF_TAKEN):
            row = {
                "transaction_id": uuid4().hex,
                "action": each.action.name,
                "account_id": each.account_id,
                "submitter": TAKEN_OVER,
                "bucket_bits": each.bucket_bits,
                "created_at_s": now_s,
            }
            inserted = await conn.execute(insert(_requests).values(row).returning(_requests.c.seq))
            seq = inserted.scalar_one()
            page = each.ids[at : at + IDS_OF_TAKEN]
            await conn.execute(
                insert(data_subject_ids),
                [{"seq": seq, "id": id_, "kind": OF_STORE, "tail": None} for id_ in page],
            )
            made += 1
    return made


async def said_ids(
    conn: AsyncConnection, *, behind: tuple[int, Id] | None, limit: int
) -> list[SaidId]:
    """Return a page of all ids of all opt-outs, in the order of their numbers."""
    seq, id_ = data_subject_ids.c.seq, data_subject_ids.c.id
    asked = (
        select(seq, _requests.c.account_id, _requests.c.action, _requests.c.bucket_bits, id_)
        .join(_requests, _requests.c.seq == seq)
        .order_by(seq, id_)
    )
    if behind is not None:
        asked = asked.where(seq >= behind[0], or_(seq > behind[0], id_ > behind[1]))
    return [
        SaidId(row[0], row[1], OptOutAction[row[2]], row[3], Id(row[4]))
        for row in await conn.execute(asked.limit(limit))
    ]


async def mark_applied(conn: AsyncConnection, seqs: Collection[int], now_s: float) -> None:
    """
    Record that the store has these requests, some thousands at most; earlier times stay.
    """
    await conn.execute(
        update(_requests)
        .where(_requests.c.seq.in_(seqs), _requests.c.applied_at_s.is_(None))
        .values(applied_at_s=now_s)
    )


async def last_seq(conn: AsyncConnection, before_seq: int | None = None) -> int:
    """Return the last request's number, or the last before `before_seq`; 0 if none."""
    asked = select(func.max(_requests.c.seq))
    if before_seq is not None:
        asked = asked.where(_requests.c.seq < before_seq)
    return await conn.scalar(asked) or 0


async def end_of_run(conn: AsyncConnection, after_seq: int, seqs: Collection[int]) -> int:
    """Return the end of the gapless run of these requests after `after_seq`, or `after_seq`."""
    behind = select(_requests.c.seq).where(_requests.c.seq > after_seq).order_by(_requests.c.seq)
    for seq in await conn.scalars(behind.limit(len(seqs))):
        if seq not in seqs:
            break
        after_seq = seq
    return after_seq


async def count_ids(conn: AsyncConnection, from_s: float, until_s: float) -> int:
    """Count the ids in the requests of a time span."""
    bounds = select(func.min(_requests.c.seq), func.max(_requests.c.seq)).where(
        _requests.c.created_at_s >= from_s, _requests.c.created_at_s < until_s
    )
    first, last = (await conn.execute(bounds)).one()
    if first is None:
        return 0
    named = select(func.count()).where(
        data_subject_ids.c.seq >= first, data_subject_ids.c.seq <= last
    )
    return (await conn.execute(named)).scalar_one()


async def _requests_of(conn: AsyncConnection, seqs: Sequence[int]) -> list[Request]:
    """Return requests, oldest first."""
    if not seqs:
        return []
    seq_to_ids: dict[int, list[Id]] = {seq: [] for seq in seqs}
    ids = select(data_subject_ids.c.seq, data_subject_ids.c.id)
    for seq, id_ in await conn.execute(ids.where(data_subject_ids.c.seq.in_(seqs))):
        seq_to_ids[seq].append(Id(id_))
    rows = await conn.execute(
        select(_requests).where(_requests.c.seq.in_(seqs)).order_by(_requests.c.seq)
    )
    return [
        Request(
            row.seq,
            row.transaction_id,
            OptOutAction[row.action],
            row.account_id,
            tuple(seq_to_ids[row.seq]),
            bucket_bits=row.bucket_bits,
        )
        for row in rows
    ]


def _check_chars(what: str, text: str | None, max_chars: int) -> None:
    if text is not None and len(text) > max_chars:
        raise Refusal(f"{what} of {len(text)} characters, limit {max_chars}")
