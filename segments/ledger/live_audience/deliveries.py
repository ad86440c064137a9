"""
Queries of deliveries: metadata files of the LiveAudience door, until they are answered.

All take a connection, so that several make one transaction.

    waits for its data file  ->  has a job  ->  answered
                             ->  answered: not found, or replaced

Of one name a partner has one delivery that waits: a metadata file that is sent
again is the same delivery, and a corrected one takes its place.
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
    """One metadata file that was accepted."""

    id: int
    account_id: int  # in whose folder it lay
    name: str  # <name>.json
    transaction_id: str
    metadata: dict[str, Any]
    received_at_s: float
    job_id: int | None  # none: it waits for its data file


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
    Note an accepted metadata file.

    Args:
        conn: A transaction.
        account: In whose folder it lay.
        name: The file's, without `.json`.
        metadata: As validated.
        transaction_id: Of the delivery, if it is a new one.
        now_s: When.

    Returns:
        The delivery; the one that waits already, if this is the same again.
    """
    of_name = (*_WAITING, _deliveries.c.account_id == account.id, _deliveries.c.name == name)
    for former in await _deliveries_where(conn, *of_name):
        if former.metadata == metadata:
            return former
        await answered(conn, former, now_s)
    values = {
        "account_id": account.id,
        "name": name,
        "transaction_id": transaction_id,
        "metadata": metadata,
        "received_at_s": now_s,
    }
    inserted = await conn.execute(insert(_deliveries).values(values).returning(*_COLUMNS))
    return Delivery(*inserted.one())


async def waiting(conn: AsyncConnection) -> list[tuple[Delivery, str]]:
    """Return the deliveries that wait for a data file, the oldest first, with their partners."""
    return await _with_partner(conn, *_WAITING)


async def finished(conn: AsyncConnection) -> list[tuple[Delivery, str]]:
    """Return the deliveries whose job has ended and that were not answered yet, likewise."""
    ended = select(_jobs.c.id).where(_jobs.c.state.not_in(UNFINISHED))
    return await _with_partner(conn, _UNANSWERED, _deliveries.c.job_id.in_(ended))


async def taken(conn: AsyncConnection, delivery: Delivery, job_id: int) -> None:
    """Note which job carries a delivery."""
    await _set(conn, delivery, job_id=job_id)


async def answered(conn: AsyncConnection, delivery: Delivery, now_s: float) -> None:
    """Note that nothing more will come of a delivery."""
    await _set(conn, delivery, answered_at_s=now_s)


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
