"""
Queries of idempotency keys and the answers kept under them.

A row without an answer is a request in progress; after its process's death the key is free after
`AT_WORK_S`. Answers are kept for `KEPT_S`.
"""

from typing import NamedTuple

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.tables import idempotency_keys as _keys
from segments.model.day import S_PER_DAY

KEPT_S = float(S_PER_DAY)
AT_WORK_S = 60.0


class KeptAnswer(NamedTuple):
    """The kept answer to a key; without a status: in progress."""

    request_sha256: bytes
    status: int | None
    body: str | None


async def begin(
    conn: AsyncConnection, scope: str, key: str, request_sha256: bytes, *, now_s: float
) -> KeptAnswer | None:
    """
    Take a key for a request, if free.

    Returns:
        `None` if the key is ours now; else its row.
    """
    over = or_(
        _keys.c.created_at_s < now_s - KEPT_S,
        _keys.c.status.is_(None) & (_keys.c.created_at_s < now_s - AT_WORK_S),
    )
    await conn.execute(delete(_keys).where(over))
    row = {
        "scope": scope,
        "key": key,
        "request_sha256": request_sha256,
        "created_at_s": now_s,
    }
    try:
        async with conn.begin_nested():
            await conn.execute(insert(_keys).values(row))
    except IntegrityError:
        asked = select(_keys.c.request_sha256, _keys.c.status, _keys.c.body).where(
            _keys.c.scope == scope, _keys.c.key == key
        )
        return KeptAnswer(*(await conn.execute(asked)).one())
    return None


async def keep(conn: AsyncConnection, scope: str, key: str, status: int, body: str) -> None:
    """Keep the answer to a key's request."""
    await conn.execute(
        update(_keys)
        .where(_keys.c.scope == scope, _keys.c.key == key)
        .values(status=status, body=body)
    )


async def release(conn: AsyncConnection, scope: str, key: str) -> None:
    """Free a key whose request changed nothing."""
    await conn.execute(delete(_keys).where(_keys.c.scope == scope, _keys.c.key == key))


async def forget_naming(conn: AsyncConnection, public_id: str) -> None:
    """Delete the answers with a deleted object's unguessable id."""
    await conn.execute(delete(_keys).where(_keys.c.body.contains(public_id)))
