"""
Queries of throttles: counters by name, shared by all processes.

A row is a leaky bucket (`segments.model.limit`), by the time when it will be empty. The key is the
SHA-256 of the name, a username's or a client's address. A bucket above its capacity dates from
before the clock was set back, and counts as full.

A row may also only remember a name until a time, as an address of a user's login.
"""

import hashlib
from typing import Any

from sqlalchemy import case, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.tables import throttles as _throttles
from segments.model.limit import Limit

_MS = 1000


async def count(
    conn: AsyncConnection, kind: str, name: str, limit: Limit, *, now_s: float
) -> float:
    """
    Count an event under a name.

    Returns:
        The seconds above the limit. If positive, roll back.
    """
    now_ms, full_ms = int(now_s * _MS), int(limit.full_s * _MS)
    row = _row(kind, name)
    row["until_ms"] = now_ms + int(limit.drop_s * _MS)
    insert = (sqlite if conn.dialect.name == "sqlite" else postgresql).insert(_throttles)
    until_ms = _throttles.c.until_ms
    level_ms = case(
        (until_ms < now_ms, now_ms), (until_ms > now_ms + full_ms, now_ms + full_ms), else_=until_ms
    )
    counted = (
        insert.values(row)
        .on_conflict_do_update(
            index_elements=[_throttles.c.kind, _throttles.c.name_sha256],
            set_={"until_ms": level_ms + int(limit.drop_s * _MS)},
        )
        .returning(until_ms)
    )
    left_ms = int((await conn.execute(counted)).scalar_one()) - now_ms - full_ms
    return max(0.0, left_ms / _MS)


async def level_off(
    conn: AsyncConnection, kind: str, name: str, limit: Limit, *, now_s: float
) -> None:
    """Cap an overfull bucket: the clock was set back."""
    full_ms = int(now_s * _MS) + int(limit.full_s * _MS)
    too_much = _throttles.c.until_ms > full_ms
    await conn.execute(
        update(_throttles).where(*_is(kind, name), too_much).values(until_ms=full_ms)
    )


async def take_back(conn: AsyncConnection, kind: str, name: str, limit: Limit) -> None:
    """Undo a count that was made in advance."""
    less = _throttles.c.until_ms - int(limit.drop_s * _MS)
    await conn.execute(update(_throttles).where(*_is(kind, name)).values(until_ms=less))


async def forget(conn: AsyncConnection, kind: str, name: str) -> None:
    """Delete the counter of a name."""
    await conn.execute(delete(_throttles).where(*_is(kind, name)))


async def forget_past(conn: AsyncConnection, *, now_s: float) -> None:
    """Delete empty buckets and expired names."""
    await conn.execute(delete(_throttles).where(_throttles.c.until_ms < int(now_s * _MS)))


async def remember(conn: AsyncConnection, kind: str, name: str, *, until_s: float) -> None:
    """Remember a name until a time."""
    row = {**_row(kind, name), "until_ms": int(until_s * _MS)}
    insert = (sqlite if conn.dialect.name == "sqlite" else postgresql).insert(_throttles)
    await conn.execute(
        insert.values(row).on_conflict_do_update(
            index_elements=[_throttles.c.kind, _throttles.c.name_sha256],
            set_={"until_ms": row["until_ms"]},
        )
    )


async def is_remembered(conn: AsyncConnection, kind: str, name: str, *, now_s: float) -> bool:
    """Tell whether a name is still remembered."""
    asked = select(_throttles.c.until_ms).where(*_is(kind, name))
    until_ms = (await conn.execute(asked)).scalar_one_or_none()
    return until_ms is not None and until_ms > now_s * _MS


def _row(kind: str, name: str) -> dict[str, Any]:
    return {"kind": kind, "name_sha256": hashlib.sha256(name.encode()).digest()}


def _is(kind: str, name: str) -> tuple[Any, ...]:
    row = _row(kind, name)
    return (_throttles.c.kind == kind, _throttles.c.name_sha256 == row["name_sha256"])
