"""Queries of callbacks: pending statuses, which survive the end of a process."""

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import ColumnElement, case, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.clocks import CLOCKS_DIFFER_S
from segments.ledger.tables import callbacks as _callbacks


class Callback(NamedTuple):
    """A status for a URL."""

    id: int
    transaction_id: str | None  # `None`: of a delivery refused at once
    url: str
    body: str
    attempts: int  # failed so far


_COLUMNS = tuple(_callbacks.c[name] for name in Callback._fields)


async def add(
    conn: AsyncConnection, transaction_id: str | None, url: str, body: str, *, now_s: float
) -> None:
    """Add a status to send, in place of its transaction's undelivered status."""
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
    """Return due callbacks, longest due first."""
    asked = (
        select(*_COLUMNS)
        .where(_is_due(now_s))
        .order_by(_callbacks.c.due_at_s, _callbacks.c.id)
        .limit(limit)
    )
    return [Callback(*row) for row in await conn.execute(asked)]


async def claim(
    conn: AsyncConnection, found: Iterable[Callback], now_s: float, *, until_s: float
) -> list[Callback]:
    """
    Claim callbacks from `due` for this process; unsettled, they are due again at `until_s`.

    Returns:
        The callbacks that no other process has claimed.
    """
    return [
        callback
        for callback in found
        if (
            await conn.execute(
                update(_callbacks)
                .where(_callbacks.c.id == callback.id, _is_due(now_s))
                .values(due_at_s=until_s, created_at_s=_not_after(now_s))
            )
        ).rowcount
    ]


async def postpone(conn: AsyncConnection, callback: Callback, due_at_s: float) -> None:
    """Record a failed attempt and when to repeat it."""
    await conn.execute(
        update(_callbacks)
        .where(_callbacks.c.id == callback.id)
        .values(attempts=callback.attempts + 1, due_at_s=due_at_s)
    )


async def remove(conn: AsyncConnection, callback: Callback) -> None:
    """Delete a callback, delivered or given up."""
    await conn.execute(delete(_callbacks).where(_callbacks.c.id == callback.id))


def _is_due(now_s: float) -> ColumnElement[bool]:
    return or_(_callbacks.c.due_at_s <= now_s, _callbacks.c.created_at_s > now_s + CLOCKS_DIFFER_S)


def _not_after(now_s: float) -> ColumnElement[float]:
    """Return the creation time; now, if the clock was set back."""
    created_at_s = _callbacks.c.created_at_s
    return case((created_at_s > now_s, now_s), else_=created_at_s)
