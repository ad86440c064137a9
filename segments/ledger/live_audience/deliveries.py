"""
Queries of deliveries: metadata files of the LiveAudience door, until they are answered.

    waits for its data file  ->  has a job  ->  answered
                             ->  answered: not found, or replaced

A partner has one waiting delivery of a name. A repeated metadata file is the same delivery until
that ends; a corrected file replaces it.
"""

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.tables import accounts as _accounts
from segments.ledger.tables import deliveries as _deliveries
from segments.ledger.tables import jobs as _jobs
from segments.model.account import Account
from segments.model.job import UNFINISHED


class Delivery(NamedTuple):
    """An accepted metadata file."""

    id: int
    account_id: int  # of the folder
    name: str  # <name>.json
    transaction_id: str
    metadata: dict[str, Any]
    received_at_s: float
    job_id: int | None  # `None`: waits for its data file
    answered_at_s: float | None  # `None`: the last answer is pending


_LOOKED_BACK = 200
"""The most of a partner's deliveries in a search for a data file's copy."""

_COLUMNS = tuple(_deliveries.c[name] for name in Delivery._fields)
_UNANSWERED = _deliveries.c.answered_at_s.is_(None)
_WAITING = (_UNANSWERED, _deliveries.c.job_id.is_(None))


async def receive(
    conn: AsyncConnection,
    account: Account,
    name: str,
    metadata: dict[str, Any],
    *,
    transaction_id: str,
    now_s: float,
) -> Delivery:
    """
    Add an accepted metadata file, by its name without `.json`, from an account's folder.

    Returns:
        The new delivery, or the unfinished delivery of the same name and metadata.
    """
    former = await _last(conn, account.id, name)
    if former is not None and former.metadata == metadata and not await _has_ended(conn, former):
        return former
    await _withdraw(conn, account.id, name, now_s)
    values = {
        "account_id": account.id,
        "name": name,
        "transaction_id": transaction_id,
        "metadata": metadata,
        "received_at_s": now_s,
    }
    inserted = await conn.execute(insert(_deliveries).values(values).returning(*_COLUMNS))
    return Delivery(*inserted.one())


async def refuse(
    conn: AsyncConnection, account: Account, name: str, *, transaction_id: str, now_s: float
) -> None:
    """
    Record a refused metadata file, if a delivery of its name is unfinished.

    A waiting delivery is withdrawn: its partner replaced it. A delivery in progress continues,
    but is no longer the last of its name.
    """
    former = await _last(conn, account.id, name)
    if former is None or await _has_ended(conn, former):
        return
    await _withdraw(conn, account.id, name, now_s)
    values = {
        "account_id": account.id,
        "name": name,
        "transaction_id": transaction_id,
        "metadata": {},
        "received_at_s": now_s,
        "answered_at_s": now_s,
    }
    await conn.execute(insert(_deliveries).values(values))


async def is_last(conn: AsyncConnection, delivery: Delivery) -> bool:
    """Tell whether no later metadata file has the same name."""
    last = await _last(conn, delivery.account_id, delivery.name)
    return last is None or last.id == delivery.id


async def same_before(conn: AsyncConnection, delivery: Delivery) -> Delivery | None:
    """Return the last earlier delivery with a job, of the same name and metadata."""
    former = await _deliveries_where(
        conn,
        _deliveries.c.account_id == delivery.account_id,
        _deliveries.c.name == delivery.name,
        _deliveries.c.id < delivery.id,
        _deliveries.c.job_id.is_not(None),
    )
    same = [each for each in former[-_LOOKED_BACK:] if each.metadata == delivery.metadata]
    return same[-1] if same else None


async def with_jobs(conn: AsyncConnection, account_id: int, file_name: str) -> list[Delivery]:
    """Return a partner's latest deliveries with a job and this data file name."""
    rows = await conn.execute(
        select(*_COLUMNS)
        .where(_deliveries.c.account_id == account_id, _deliveries.c.job_id.is_not(None))
        .order_by(_deliveries.c.id.desc())
        .limit(_LOOKED_BACK)
    )
    found = [Delivery(*row) for row in rows]
    return [each for each in found if each.metadata.get("file", {}).get("name") == file_name]


async def waiting(conn: AsyncConnection) -> list[tuple[Delivery, str]]:
    """Return the deliveries without a data file, with their partners, oldest first."""
    return await _with_partner(conn, *_WAITING)


async def finished(conn: AsyncConnection) -> list[tuple[Delivery, str]]:
    """Return the unanswered deliveries of ended jobs, with their partners, likewise."""
    ended = select(_jobs.c.id).where(_jobs.c.state.not_in(UNFINISHED))
    return await _with_partner(conn, _UNANSWERED, _deliveries.c.job_id.in_(ended))


async def taken(conn: AsyncConnection, delivery: Delivery, job_id: int) -> None:
    """Record a delivery's job."""
    await _set(conn, delivery, job_id=job_id)


async def answered(conn: AsyncConnection, delivery: Delivery, now_s: float) -> None:
    """Record that a delivery has its last answer."""
    await _set(conn, delivery, answered_at_s=now_s)


async def _last(conn: AsyncConnection, account_id: int, name: str) -> Delivery | None:
    row = await conn.execute(
        select(*_COLUMNS)
        .where(_deliveries.c.account_id == account_id, _deliveries.c.name == name)
        .order_by(_deliveries.c.id.desc())
        .limit(1)
    )
    found = row.first()
    return None if found is None else Delivery(*found)


async def _has_ended(conn: AsyncConnection, delivery: Delivery) -> bool:
    if delivery.job_id is None:
        return delivery.answered_at_s is not None
    state = await conn.scalar(select(_jobs.c.state).where(_jobs.c.id == delivery.job_id))
    return state not in UNFINISHED


async def _withdraw(conn: AsyncConnection, account_id: int, name: str, now_s: float) -> None:
    of_name = (*_WAITING, _deliveries.c.account_id == account_id, _deliveries.c.name == name)
    for former in await _deliveries_where(conn, *of_name):
        await answered(conn, former, now_s)


async def _set(conn: AsyncConnection, delivery: Delivery, **values: Any) -> None:
    await conn.execute(update(_deliveries).where(_deliveries.c.id == delivery.id).values(**values))


async def _deliveries_where(
    conn: AsyncConnection, *conditions: ColumnElement[bool]
) -> list[Delivery]:
    rows = await conn.execute(select(*_COLUMNS).where(*conditions).order_by(_deliveries.c.id))
    return [Delivery(*row) for row in rows]


async def _with_partner(
    conn: AsyncConnection, *conditions: ColumnElement[bool]
) -> list[tuple[Delivery, str]]:
    rows = await conn.execute(
        select(*_COLUMNS, _accounts.c.public_id)
        .join(_accounts, _accounts.c.id == _deliveries.c.account_id)
        .where(*conditions)
        .order_by(_deliveries.c.id)
    )
    return [(Delivery(*fields), partner_id) for *fields, partner_id in rows]
