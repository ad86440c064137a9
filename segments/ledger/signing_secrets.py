"""
The keys of our own signatures: generated at first use, and kept for all replicas and restarts.
"""

import secrets

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.tables import secrets as _secrets

SECRET_BYTES = 32


async def own_secret(conn: AsyncConnection, name: str, *, now_s: float) -> bytes:
    """Return the secret of a name, its only purpose. `conn` is a transaction."""
    asked = select(_secrets.c.value).where(_secrets.c.name == name)
    found: bytes | None = await conn.scalar(asked)
    if found is not None:
        return found
    row = {"name": name, "value": secrets.token_bytes(SECRET_BYTES), "created_at_s": int(now_s)}
    try:
        async with conn.begin_nested():
            await conn.execute(insert(_secrets).values(row))
    except IntegrityError:
        pass  # another replica was faster: only possible on PostgreSQL
    drawn: bytes = (await conn.execute(asked)).scalar_one()
    return drawn
