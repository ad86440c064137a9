"""The keys of our own signatures: generated at first use, for all replicas and restarts."""

import secrets
from collections.abc import Iterable

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.tables import secrets as _secrets

SECRET_BYTES = 32


async def own_secret(conn: AsyncConnection, name: str, *, now_s: float) -> bytes:
    """Return the secret of a name, its only purpose. `conn` is a transaction."""
    found = await kept_secrets(conn, [name])
    if found:
        return found[name]
    return await keep_first(conn, name, secrets.token_bytes(SECRET_BYTES), now_s=now_s)


async def kept_secrets(conn: AsyncConnection, names: Iterable[str]) -> dict[str, bytes]:
    """Return the kept secrets among some names."""
    asked = select(_secrets.c.name, _secrets.c.value).where(_secrets.c.name.in_(list(names)))
    return {row.name: row.value for row in await conn.execute(asked)}


async def keep_first(conn: AsyncConnection, name: str, value: bytes, *, now_s: float) -> bytes:
    """Keep a secret unless its name has one; return the kept one. `conn` is a transaction."""
    row = {"name": name, "value": value, "created_at_s": int(now_s)}
    try:
        async with conn.begin_nested():
            await conn.execute(insert(_secrets).values(row))
    except IntegrityError:
        pass  # another replica was faster
    return (await kept_secrets(conn, [name]))[name]


async def replace_secret(conn: AsyncConnection, name: str, value: bytes, *, now_s: float) -> None:
    """Replace a name's secret. `conn` is a transaction."""
    await conn.execute(delete(_secrets).where(_secrets.c.name == name))
    await keep_first(conn, name, value, now_s=now_s)
