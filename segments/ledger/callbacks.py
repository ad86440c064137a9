"""
Queries of callbacks: statuses that are still to be POSTed, so that none is
forgotten when a process ends.

All take a connection, so that several make one transaction.
"""

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.tables import callbacks as _callbacks


class Callback(NamedTuple):
    """One status for one URL."""

    id: int
    transaction_id: str | None  # none: of a delivery that was refused at once
    url: str
    body: str
    attempts: int  # made so far, in vain


_COLUMNS = tuple(_callbacks.c[name] for name in Callback._fields)


async def add(
    conn: AsyncConnection, transaction_id: str | None, url: str, body: str, *, now_s: float
) -> None:
    """
    Note a status to be sent.

    An earlier one of the same transaction that was not delivered yet is
    dropped: it would arrive behind the later one.
    """
    if transaction_id is not None:
        await conn.execute(delete(_callbacks).where(_callbacks.c.transaction_id == transaction_id))
    values = {
        "transaction_id": transaction_id,
        "url": url,
        "body": body,
        "attempts": 0,
        "created_at_s": now_s,
        "due_at_s": now_s,
    }
    await conn.execute(insert(_callbacks).values(values))


async def due(conn: AsyncConnection, now_s: float, limit: int) -> list[Callback]:
    """Return those whose time has come, the longest due first."""
    asked = (
        select(*_COLUMNS)
        .where(_callbacks.c.due_at_s <= now_s)
        .order_by(_callbacks.c.due_at_s, _callbacks.c.id)
        .limit(limit)
    )
    return [Callback(*row) for row in await conn.execute(asked)]


async def claim(
    conn: AsyncConnection, found: Iterable[Callback], now_s: float, *, until_s: float
) -> list[Callback]:
    """
    Take callbacks that were found due for one process alone: several look for them.

    Args:
        conn: A transaction.
        found: As of `due`.
        now_s: When.
        until_s: When they are due again, if whoever took them is not heard of before.

    Returns:
        Those that nobody else has taken meanwhile.
    """
    return [
        callback
        for callback in found
        if (
            await conn.execute(
                update(_callbacks)
                .where(_callbacks.c.id == callback.id, _callbacks.c.due_at_s <= now_s)
                .values(due_at_s=until_s)
            )
        ).rowcount
    ]


async def postpone(conn: AsyncConnection, callback: Callback, due_at_s: float) -> None:
    """Note an attempt in vain, and when the next is due."""
    await conn.execute(
        update(_callbacks)
        .where(_callbacks.c.id == callback.id)
        .values(attempts=callback.attempts + 1, due_at_s=due_at_s)
    )


async def remove(conn: AsyncConnection, callback: Callback) -> None:
    """Forget one that was delivered or given up."""
    await conn.execute(delete(_callbacks).where(_callbacks.c.id == callback.id))
