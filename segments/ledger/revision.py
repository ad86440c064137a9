"""
The catalog's revision: a number that every change of the catalog raises.

The catalog holds accounts, audiences and recipients for the bid path. Their changes raise the
revision in the same transaction, and `segments.projection.catalog` publishes each revision that the
store lacks. So no change is lost, and none is published before its commit.

Each revision has a random name, so that a restored copy's revision differs from one of the lost
ledger with the same number.

On PostgreSQL writers lock the revision's row before any other, so that no two transactions wait for
each other. SQLite has a single writer anyway.
"""

import secrets
from typing import Final

from sqlalchemy import case, delete, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.tables import catalog_revision, revision_names

NAMES_KEPT: Final = 100_000
"""More than any store is ever behind."""


async def lock_catalog(conn: AsyncConnection) -> None:
    """
    Wait for other transactions that change the catalog or record opt-outs.

    The turn ends with the transaction. Call this, or raise the revision, before any other change
    or lock.
    """
    await conn.execute(select(catalog_revision.c.revision).with_for_update())


async def raise_revision(conn: AsyncConnection, *, above: int = 0) -> None:
    """Raise the revision for this transaction's change, above `above`, a published version."""
    held = catalog_revision.c.revision
    await conn.execute(
        update(catalog_revision).values(revision=case((held < above, above), else_=held) + 1),
    )
    name = literal(secrets.token_hex(16))
    await conn.execute(insert(revision_names).from_select(["revision", "name"], select(held, name)))
    oldest = select(held - NAMES_KEPT).scalar_subquery()
    await conn.execute(delete(revision_names).where(revision_names.c.revision <= oldest))


async def revision(conn: AsyncConnection) -> int:
    """Return the catalog's revision."""
    number: int = (await conn.execute(select(catalog_revision.c.revision))).scalar_one()
    return number


async def name_of(conn: AsyncConnection, number: int) -> str:
    """Return the name of a revision; empty if unknown."""
    asked = select(revision_names.c.name).where(revision_names.c.revision == number)
    return await conn.scalar(asked) or ""


async def rename(conn: AsyncConnection, number: int, name: str) -> None:
    """Give a revision the name in a store whose changes this ledger took over."""
    await conn.execute(delete(revision_names).where(revision_names.c.revision == number))
    await conn.execute(insert(revision_names).values(revision=number, name=name))


async def in_force(conn: AsyncConnection) -> int:
    """Return the last revision recorded as in force for every bid."""
    number: int = (await conn.execute(select(catalog_revision.c.in_force))).scalar_one()
    return number


async def note_in_force(conn: AsyncConnection, number: int) -> None:
    """Record that every bid is answered by this revision or a later."""
    held = catalog_revision.c.in_force
    await conn.execute(update(catalog_revision).where(held < number).values(in_force=number))
