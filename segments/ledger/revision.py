"""
The catalog's revision: a number that every change of the catalog raises.

The catalog is what the bid path must know of accounts, audiences and
recipients. Whoever changes one of these raises the revision in the same
transaction; `segments.projection.catalog` publishes whatever the store does not show
yet. So a change is never lost between the two, and none is published before it
is committed.

Each revision has a name, drawn at random. A copy of the ledger that was restored and went
on by itself comes to the same numbers as the ledger that is lost, and to other names: so
whoever was told a number and its name can tell the two apart.

It is also the place where they take turns on PostgreSQL: one row, locked before
any other, so that no two transactions wait for each other. SQLite has one
writer anyway.
"""

import secrets
from typing import Final

from sqlalchemy import case, delete, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.tables import catalog_revision, revision_names

NAMES_KEPT: Final = 100_000
"""Of so many revisions the names are kept: more than any store is ever behind."""


async def lock_catalog(conn: AsyncConnection) -> None:
    """
    Wait for every other transaction that changes the catalog or records opt-outs.

    The turn ends with the transaction. Whoever may raise the revision calls
    this, or raises it, before it changes or locks anything else.
    """
    await conn.execute(select(catalog_revision.c.revision).with_for_update())


async def raise_revision(conn: AsyncConnection, *, above: int = 0) -> None:
    """Note that this transaction changes the catalog; `above` is a version that was shown."""
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
    """Return the name of a revision; empty if it has none that is still known."""
    asked = select(revision_names.c.name).where(revision_names.c.revision == number)
    return await conn.scalar(asked) or ""


async def rename(conn: AsyncConnection, number: int, name: str) -> None:
    """Call a revision what a store calls it whose changes this ledger has taken over."""
    await conn.execute(delete(revision_names).where(revision_names.c.revision == number))
    await conn.execute(insert(revision_names).values(revision=number, name=name))


async def in_force(conn: AsyncConnection) -> int:
    """Return the last revision that every bid is answered by, as far as a loader has said."""
    number: int = (await conn.execute(select(catalog_revision.c.in_force))).scalar_one()
    return number


async def note_in_force(conn: AsyncConnection, number: int) -> None:
    """Note that no bid is answered by a revision before this one any more."""
    held = catalog_revision.c.in_force
    await conn.execute(update(catalog_revision).where(held < number).values(in_force=number))
