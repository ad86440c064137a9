"""
Which ledger this is, and how far it has come: what a store and its ledger know each other by.

A ledger gets its id when it is made, or by the migration that brought the id, and
keeps it for good; a copy that was restored has it too. Three numbers tell a copy
that is too old from the ledger itself: those of its last audience and of its last
opt-out, which are never given twice, and its catalog's revision.
`segments.projection.one_ledger` compares them with what the store was told.
"""

from typing import NamedTuple

from sqlalchemy import ColumnElement, Table, case, exists, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.tables import (
    accounts,
    audiences,
    data_subject_requests,
    jobs,
    ledger_identity,
    recipients,
)


class Standing(NamedTuple):
    """A ledger's id, and how far its numbers are given away."""

    ledger_id: str
    last_audience: int
    last_opt_out: int
    taken_until: int = 0
    """Opt-outs up to this number may be another's than a store was told of, and are no matter."""


async def transaction_of(conn: AsyncConnection, opt_out: int) -> str:
    """Return the transaction id of the opt-out of a number; empty if there is none."""
    asked = select(data_subject_requests.c.transaction_id)
    found: str | None = await conn.scalar(asked.where(data_subject_requests.c.seq == opt_out))
    return found or ""


async def standing(conn: AsyncConnection) -> Standing:
    """Return the ledger's id, and the last numbers that it has given away."""
    asked = select(
        ledger_identity.c.ledger_id,
        _later(ledger_identity.c.last_audience, audiences.c.id),
        _later(ledger_identity.c.last_opt_out, data_subject_requests.c.seq),
        ledger_identity.c.last_opt_out,
    )
    return Standing(*(await conn.execute(asked)).one())


async def holds_anything(conn: AsyncConnection) -> bool:
    """Tell whether anybody has told this ledger anything yet."""
    told = (accounts, recipients, data_subject_requests)
    return any([await conn.scalar(select(exists(select(table)))) for table in told])


async def lift(conn: AsyncConnection, until: Standing, table_to_last: dict[str, int]) -> None:
    """
    Give no number away any more that the store was told of.

    Args:
        conn: A transaction.
        until: The store's last audience and opt-out; the id is not looked at.
        table_to_last: The last number of further tables that was seen in use.
    """
    last_audience, last_opt_out = until.last_audience, until.last_opt_out
    await conn.execute(
        update(ledger_identity).values(last_audience=last_audience, last_opt_out=last_opt_out)
    )
    await _lift_sequence(conn, audiences, last_audience)
    await _lift_sequence(conn, data_subject_requests, last_opt_out)
    for table in (accounts, jobs, recipients):
        await _lift_sequence(conn, table, table_to_last.get(table.name, 0))


def _later(floor: ColumnElement[int], number: ColumnElement[int]) -> ColumnElement[int]:
    last = func.coalesce(select(func.max(number)).scalar_subquery(), 0)
    # Written out, for SQLite's max() of two values has another name on PostgreSQL.
    return case((last > floor, last), else_=floor)


async def _lift_sequence(conn: AsyncConnection, table: Table, last: int) -> None:
    (column,) = table.primary_key
    given = {"table": table.name, "column": column.name, "last": last}
    held = await conn.scalar(select(func.max(column))) or 0
    if conn.dialect.name == "sqlite":
        name = {"table": table.name}
        until = await conn.scalar(text("select seq from sqlite_sequence where name = :table"), name)
        if until is None:
            await conn.execute(text("insert into sqlite_sequence values (:table, :last)"), given)
        elif until < last:
            await conn.execute(
                text("update sqlite_sequence set seq = :last where name = :table"), given
            )
    elif held < last:
        given["last"] = last
        await conn.execute(
            text(
                "select setval(name, greatest(cast(:last as bigint), nextval(name)))"
                " from cast(pg_get_serial_sequence(:table, :column) as regclass) as name"
            ),
            given,
        )
