r"""
Queries of access requests: persons' requests for our data of them.

    pending ── completed ── expired         the report is due, exists, is gone
       \____________/
          ERASURE

An ERASURE of any of its ids withdraws a report in the same transaction: the request is pending
again, for a report without the erased data. A report in progress has an older `version` and is
rejected. `stale_blob` names the withdrawn file until its deletion.
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
"""Ids in a statement, within every database's limits."""


class AccessRequestState(StrEnum):
    """The state of a request."""

    PENDING = "pending"
    COMPLETED = "completed"
    EXPIRED = "expired"


class SubjectId(NamedTuple):
    """A submitted id, and the rest of its e-mail hash."""

    kind: IdentifierKind
    id: Id
    tail: bytes | None = None


class NewAccess(NamedTuple):
    """A submission."""

    ids: Sequence[SubjectId]
    account_id: int | None  # the account whose data is reported; `None`: all data
    jurisdiction: str | None = None
    submitter: str | None = None
    callback: str | None = None
    token_id: int | None = None
    key_id: int | None = None
    reference: str | None = None  # the privacy desk's own


class Access(NamedTuple):
    """A row of the table."""

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
    reference: str | None = None


_COLUMNS = tuple(_requests.c[name] for name in Access._fields)
# The partial index's own words, so that it is used.
_IS_UNFINISHED = text("(state <> 'expired' or stale_blob is not null)")


async def add(conn: AsyncConnection, new: NewAccess, *, now_s: float) -> str:
    """Add a request whose report is due, and return its transaction id."""
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
    """Return a request by its transaction id."""
    asked = select(*_COLUMNS).where(_requests.c.transaction_id == transaction_id)
    row = (await conn.execute(asked)).one_or_none()
    return None if row is None else _access(row)


async def of_ids(conn: AsyncConnection, ids: Sequence[Id], limit: int) -> list[Access]:
    """Return the requests with any of these ids, newest first."""
    found: dict[int, Access] = {}
    for at in range(0, len(ids), _IDS_AT_ONCE):
        naming = select(_ids.c.request_id).where(_ids.c.id.in_(ids[at : at + _IDS_AT_ONCE]))
        asked = select(*_COLUMNS).where(_requests.c.id.in_(naming))
        for row in await conn.execute(asked.order_by(_requests.c.id.desc()).limit(limit)):
            found[row.id] = _access(row)
    return [found[request_id] for request_id in sorted(found, reverse=True)[:limit]]


async def count(conn: AsyncConnection, state: AccessRequestState) -> int:
    """Count the requests in a state, except expired ones, which no index finds."""
    asked = select(func.count()).where(_IS_UNFINISHED, _requests.c.state == state.value)
    return (await conn.execute(asked)).scalar_one()


async def ids_of(conn: AsyncConnection, request_id: int) -> list[SubjectId]:
    """Return the ids of a request, in order of submission."""
    asked = select(_ids.c.kind, _ids.c.id, _ids.c.tail).where(_ids.c.request_id == request_id)
    return [
        SubjectId(IdentifierKind(kind), Id(id_), tail)
        for kind, id_, tail in await conn.execute(asked.order_by(_ids.c.position))
    ]


async def withdraw(conn: AsyncConnection, ids: Sequence[Id]) -> None:
    """Withdraw the reports of all requests with any of these ids."""
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
    """Return the ids of all requests with a report that exists, or is due or to be deleted."""
    unfinished = select(_requests.c.id).where(_IS_UNFINISHED)
    asked = select(_ids.c.id).where(_ids.c.request_id.in_(unfinished)).distinct()
    return [Id(id_) for id_ in await conn.scalars(asked)]


async def due(conn: AsyncConnection, now_s: float, limit: int) -> list[Access]:
    """Return the requests whose report is due or has expired, oldest first."""
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
    """Return the requests with a withdrawn file still to be deleted."""
    asked = select(*_COLUMNS).where(_IS_UNFINISHED, _requests.c.stale_blob.is_not(None))
    return [_access(row) for row in await conn.execute(asked)]


async def known_blobs(conn: AsyncConnection, names: Sequence[str]) -> set[str]:
    """Return those of these names that are a request's files."""
    known: set[str] = set()
    for at in range(0, len(names), _IDS_AT_ONCE):
        page = names[at : at + _IDS_AT_ONCE]
        for column in (_requests.c.blob, _requests.c.stale_blob):
            known |= set(await conn.scalars(select(column).where(column.in_(page))))
    return known


async def every_blob(conn: AsyncConnection) -> set[str]:
    """Return the names of all reports; the query suits every revision of the tables."""
    asked = select(_requests.c.blob).where(_requests.c.blob.is_not(None))
    return {name for name in await conn.scalars(asked) if name is not None}


async def complete(
    conn: AsyncConnection, access: Access, blob: str, *, now_s: float, expires_at_s: float
) -> bool:
    """
    Record a request's report, and the time of its callback.

    Returns:
        `False` if the report is rejected: an ERASURE intervened, another replica was faster,
        or the previous file is not deleted yet.
    """
    noted = await conn.execute(
        update(_requests)
        .where(
            _requests.c.id == access.id,
            _requests.c.version == access.version,
            _requests.c.state == AccessRequestState.PENDING.value,
            # A second file would be forgotten.
            _requests.c.stale_blob.is_(None),
        )
        .values(
            state=AccessRequestState.COMPLETED.value,
            blob=blob,
            told_at_s=now_s if access.told_at_s is None else access.told_at_s,
            # A new report keeps the expiry of the first.
            expires_at_s=access.expires_at_s or expires_at_s,
        )
    )
    return bool(noted.rowcount)


async def expire(conn: AsyncConnection, access: Access) -> None:
    """Mark a report as expired; its file is still to be deleted."""
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
    """Record that a withdrawn file is deleted."""
    await conn.execute(
        update(_requests)
        .where(_requests.c.id == access.id, _requests.c.stale_blob == access.stale_blob)
        .values(stale_blob=None)
    )


def _access(row: Row[Any]) -> Access:
    return Access(**{**row._asdict(), "state": AccessRequestState(row.state)})
