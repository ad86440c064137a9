"""
The ledger's identity and progress, by which a store recognizes its ledger.

A restored copy has the same id. Three numbers expose an outdated copy: the last audience's and the
last opt-out's, never reused, and the catalog's revision. `segments.projection.one_ledger` compares
them with those that the store was told.
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
    """A ledger's id and its last numbers."""

    ledger_id: str
    last_audience: int
    last_opt_out: int
    taken_until: int = 0
    """Up to this number the store's and the ledger's opt-outs may differ, which is harmless."""


async def transaction_of(conn: AsyncConnection, opt_out: int) -> str:
    """Return an opt-out's transaction id by its number; empty if there is none."""
    asked = select(data_subject_requests.c.transaction_id)
    found: str | None = await conn.scalar(asked.where(data_subject_requests.c.seq == opt_out))
    return found or ""


async def standing(conn: AsyncConnection) -> Standing:
    """Return the ledger's id and its last numbers."""
    asked = select(
        ledger_identity.c.ledger_id,
        _later(ledger_identity.c.last_audience, audiences.c.id),
        _later(ledger_identity.c.last_opt_out, data_subject_requests.c.seq),
        ledger_identity.c.last_opt_out,
    )
    return Standing(*(await conn.execute(asked)).one())


async def holds_anything(conn: AsyncConnection) -> bool:
    """Tell whether the ledger has any account, recipient or data subject request."""
    told = (accounts, recipients, data_subject_requests)
    return any([await conn.scalar(select(exists(select(table)))) for table in told])


async def lift(conn: AsyncConnection, until: Standing, table_to_last: dict[str, int]) -> None:
    """
    Reserve every number that the store was told of.

    `until` has the last audience and opt-out, `table_to_last` further tables' last numbers.
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
    # SQLite's max() of two values is greatest() on PostgreSQL.
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
