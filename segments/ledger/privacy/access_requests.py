r"""
Queries of access requests: persons who asked what is held of them.

    pending ── completed ── expired         the report is to be made, is there, is gone
       \____________/
          ERASURE

An ERASURE of one of its ids withdraws a report in the transaction that records
the ERASURE: it is pending again, and is made anew without what was erased. One
that was being made meanwhile is of an older `version` and is not taken. The
file that was withdrawn is named by `stale_blob` until it is deleted.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import Row, func, insert, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.tables import access_request_ids as _ids
from segments.ledger.tables import access_requests as _requests
from segments.model.identity import Id, IdentifierKind

_IDS_AT_ONCE = 1000
"""In one statement: more than every database takes is never asked."""


class AccessRequestState(StrEnum):
    """How far a request is."""

    PENDING = "pending"
    COMPLETED = "completed"
    EXPIRED = "expired"


class SubjectId(NamedTuple):
    """One id that was submitted, and what of an e-mail hash lies behind it."""

    kind: IdentifierKind
    id: Id
    tail: bytes | None = None


class NewAccess(NamedTuple):
    """What is submitted."""

    ids: Sequence[SubjectId]
    account_id: int | None  # what is told of; none: everything
    jurisdiction: str | None = None
    submitter: str | None = None
    callback: str | None = None
    token_id: int | None = None
    key_id: int | None = None


class Access(NamedTuple):
    """One row."""

    id: int
    transaction_id: str
    account_id: int | None
    jurisdiction: str | None
    submitter: str | None
    callback: str | None
    token_id: int | None
    key_id: int | None
    created_at_s: float
    state: AccessRequestState
    version: int
    blob: str | None
    stale_blob: str | None
    told_at_s: float | None
    expires_at_s: float | None


_COLUMNS = tuple(_requests.c[name] for name in Access._fields)
# As the partial index has it, so that it is used.
_IS_UNFINISHED = text("(state <> 'expired' or stale_blob is not null)")


async def add(conn: AsyncConnection, new: NewAccess, *, now_s: float) -> str:
    """Note a request whose report is to be made, and return its transaction id."""
    transaction_id = uuid4().hex
    row = {
        **new._asdict(),
        "transaction_id": transaction_id,
        "created_at_s": now_s,
        "state": AccessRequestState.PENDING.value,
        "version": 0,
    }
    del row["ids"]
    inserted = await conn.execute(insert(_requests).values(row).returning(_requests.c.id))
    request_id = inserted.scalar_one()
    await conn.execute(
        insert(_ids),
        [
            {"request_id": request_id, "position": position, **each._asdict()}
            for position, each in enumerate(new.ids, 1)
        ],
    )
    return transaction_id


async def find(conn: AsyncConnection, transaction_id: str) -> Access | None:
    """Return the request of a transaction id."""
    asked = select(*_COLUMNS).where(_requests.c.transaction_id == transaction_id)
    row = (await conn.execute(asked)).one_or_none()
    return None if row is None else _access(row)


async def of_ids(conn: AsyncConnection, ids: Sequence[Id], limit: int) -> list[Access]:
    """Return the requests that name one of some ids, the newest first."""
    found: dict[int, Access] = {}
    for at in range(0, len(ids), _IDS_AT_ONCE):
        naming = select(_ids.c.request_id).where(_ids.c.id.in_(ids[at : at + _IDS_AT_ONCE]))
        asked = select(*_COLUMNS).where(_requests.c.id.in_(naming))
        for row in await conn.execute(asked.order_by(_requests.c.id.desc()).limit(limit)):
            found[row.id] = _access(row)
    return [found[request_id] for request_id in sorted(found, reverse=True)[:limit]]


async def ids_of(conn: AsyncConnection, request_id: int) -> list[SubjectId]:
    """Return the ids of a request, in the order in which they were submitted."""
    asked = select(_ids.c.kind, _ids.c.id, _ids.c.tail).where(_ids.c.request_id == request_id)
    return [
        SubjectId(IdentifierKind(kind), Id(id_), tail)
        for kind, id_, tail in await conn.execute(asked.order_by(_ids.c.position))
    ]


async def withdraw(conn: AsyncConnection, ids: Sequence[Id]) -> None:
    """Withdraw the reports of all requests that name one of some ids; they are made anew."""
    for at in range(0, len(ids), _IDS_AT_ONCE):
        naming = select(_ids.c.request_id).where(_ids.c.id.in_(ids[at : at + _IDS_AT_ONCE]))
        await conn.execute(
            update(_requests)
            .where(
                _requests.c.id.in_(naming), _requests.c.state != AccessRequestState.EXPIRED.value
            )
            .values(
                state=AccessRequestState.PENDING.value,
                version=_requests.c.version + 1,
                stale_blob=func.coalesce(_requests.c.blob, _requests.c.stale_blob),
                blob=None,
            )
        )


async def ids_reported(conn: AsyncConnection) -> list[Id]:
    """Return the ids of all requests whose report is there, or is still to be made."""
    unfinished = select(_requests.c.id).where(_IS_UNFINISHED)
    asked = select(_ids.c.id).where(_ids.c.request_id.in_(unfinished)).distinct()
    return [Id(id_) for id_ in await conn.scalars(asked)]


async def due(conn: AsyncConnection, now_s: float, limit: int) -> list[Access]:
    """Return the requests whose report is to be made, or is over, the oldest first."""
    asked = (
        select(*_COLUMNS)
        .where(_IS_UNFINISHED)
        .where(
            or_(
                _requests.c.state == AccessRequestState.PENDING.value,
                _requests.c.expires_at_s <= now_s,
            )
        )
        .where(_requests.c.state != AccessRequestState.EXPIRED.value)
        .order_by(_requests.c.id)
        .limit(limit)
    )
    return [_access(row) for row in await conn.execute(asked)]


async def withdrawn(conn: AsyncConnection) -> list[Access]:
    """Return the requests that have a file which is still to be deleted."""
    asked = select(*_COLUMNS).where(_IS_UNFINISHED, _requests.c.stale_blob.is_not(None))
    return [_access(row) for row in await conn.execute(asked)]


async def known_blobs(conn: AsyncConnection, names: Sequence[str]) -> set[str]:
    """Return those of some names that a request has."""
    known: set[str] = set()
    for at in range(0, len(names), _IDS_AT_ONCE):
        page = names[at : at + _IDS_AT_ONCE]
        for column in (_requests.c.blob, _requests.c.stale_blob):
            known |= set(await conn.scalars(select(column).where(column.in_(page))))
    return known


async def complete(
    conn: AsyncConnection, access: Access, blob: str, *, now_s: float, expires_at_s: float
) -> bool:
    """
    Note the report of a request, and whether its callback is noted with it.

    Returns:
        False if the report is not taken: an ERASURE came in between, or another
        replica was faster, or the one before is not deleted yet.
    """
    noted = await conn.execute(
        update(_requests)
        .where(
            _requests.c.id == access.id,
            _requests.c.version == access.version,
            _requests.c.state == AccessRequestState.PENDING.value,
            # One file at a time is still to be deleted, or it would be forgotten.
            _requests.c.stale_blob.is_(None),
        )
        .values(
            state=AccessRequestState.COMPLETED.value,
            blob=blob,
            told_at_s=now_s if access.told_at_s is None else access.told_at_s,
            # Made anew, it lives no longer than it would have.
            expires_at_s=access.expires_at_s or expires_at_s,
        )
    )
    return bool(noted.rowcount)


async def expire(conn: AsyncConnection, access: Access) -> None:
    """Note that a report is over; its file is still to be deleted."""
    await conn.execute(
        update(_requests)
        .where(_requests.c.id == access.id)
        .values(
            state=AccessRequestState.EXPIRED.value,
            stale_blob=func.coalesce(_requests.c.blob, _requests.c.stale_blob),
            blob=None,
        )
    )


async def forget_stale(conn: AsyncConnection, access: Access) -> None:
    """Note that a withdrawn file is deleted."""
    await conn.execute(
        update(_requests)
        .where(_requests.c.id == access.id, _requests.c.stale_blob == access.stale_blob)
        .values(stale_blob=None)
    )


def _access(row: Row[Any]) -> Access:
    return Access(**{**row._asdict(), "state": AccessRequestState(row.state)})
