"""
The catalog's revision: a number that every change of the catalog raises.

The catalog is what the bid path must know of accounts, audiences and
recipients. Whoever changes one of these raises the revision in the same
transaction; `segments.projection.catalog` publishes whatever the store does not show
yet. So a change is never lost between the two, and none is published before it
is committed.

It is also the place where they take turns on PostgreSQL: one row, locked before
any other, so that no two transactions wait for each other. SQLite has one
writer anyway.
"""

from sqlalchemy import case, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.tables import catalog_revision


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


async def revision(conn: AsyncConnection) -> int:
    """Return the catalog's revision."""
    number: int = (await conn.execute(select(catalog_revision.c.revision))).scalar_one()
    return number
