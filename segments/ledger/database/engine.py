"""
The ledger's engine, with its tables migrated to the current schema.

    async with open_ledger(url) as ledger:
        async with ledger.begin() as conn:      # a write: all of it or nothing
            ...
        async with reading(ledger) as conn:     # a snapshot: never waits for a writer
            ...

The URL selects the database, which only `sqlite.py` and `postgres.py` know. Queries keep to common
behavior: they lock rows that they read to change, which SQLite ignores because its writers take
turns.

Processes that open a fresh ledger take turns, and the first creates the tables. Few may create a
ledger (see `segments.projection.one_ledger`); the others wait briefly.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import ModuleType

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ledger.database.errors import LedgerAway, LedgerUnusable, NoLedger
from segments.ledger.migrations import HEAD, VERSION_TABLE

__all__ = ["LedgerAway", "LedgerUnusable", "NoLedger", "existing_ledger", "open_ledger", "reading"]

_log = logging.getLogger(__name__)

BeforeMaking = Callable[[], Awaitable[None]]
"""Awaited under the migration lock before a ledger is created; raises to refuse."""

MADE_WITHIN_S = 5.0

_LOOK_EVERY_S = 0.05


async def _ask_nobody() -> None:
    """Allow creation."""


@asynccontextmanager
async def existing_ledger(url: str) -> AsyncIterator[AsyncEngine]:
    """
    Open the ledger as `open_ledger`, if it exists within `MADE_WITHIN_S`.

    Raises:
        NoLedger: The ledger does not exist.
        LedgerUnusable: As `open_ledger`.
    """
    database = module_of(url.partition(":")[0])
    give_up_at_s = time.monotonic() + MADE_WITHIN_S
    while not await _is_there(url, database):
        if time.monotonic() > give_up_at_s:
            raise NoLedger(f"no {database.called(url, is_there=False)}")
        await asyncio.sleep(_LOOK_EVERY_S)
    async with open_ledger(url) as ledger:
        yield ledger


@asynccontextmanager
async def open_ledger(
    url: str, before_making: BeforeMaking = _ask_nobody
) -> AsyncIterator[AsyncEngine]:
    """
    Open the ledger for the context's lifetime, with its tables up to date.

    `url` is `sqlite+aiosqlite` in SQLAlchemy's form, or `postgresql` in asyncpg's; `before_making`
    is called before a ledger is created.

    Raises:
        LedgerUnusable: The ledger can't be reached, read, written or created; or it is none, or
            of a later version of this software.
    """
    database = module_of(url.partition(":")[0])
    ledger = database.make_engine(url)
    try:
        try:
            await _bring_up_to_date(ledger, url, before_making)
        except DBAPIError as error:
            raise LedgerUnusable(f"{database.called(url)}: {database.words_of(error)}") from None
        yield ledger
    finally:
        await ledger.dispose()


@asynccontextmanager
async def reading(ledger: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield a read-only connection to a snapshot of the ledger."""
    async with ledger.connect() as conn:
        await conn.execution_options(**module_of(ledger.dialect.name).SNAPSHOT)
        yield conn


async def check_writable(ledger: AsyncEngine) -> None:
    """
    Check, without a change, that the ledger is writable.

    Raises:
        LedgerAway: It is not.
    """
    await module_of(ledger.dialect.name).check_writable(ledger)


def module_of(name: str) -> ModuleType:
    """Return a database's module, by a URL's scheme or a dialect's name."""
    # Imported on demand: without PostgreSQL its driver may be absent.
    if name == "postgresql":
        from segments.ledger.database import postgres  # noqa: PLC0415

        return postgres
    from segments.ledger.database import sqlite  # noqa: PLC0415

    return sqlite


async def _is_there(url: str, database: ModuleType) -> bool:
    if not database.may_be_there(url):
        return False
    ledger = database.make_engine(url)
    try:
        return await _revision(ledger) is not None
    except DBAPIError as error:
        raise LedgerUnusable(f"{database.called(url)}: {database.words_of(error)}") from None
    finally:
        await ledger.dispose()


async def _bring_up_to_date(ledger: AsyncEngine, url: str, before_making: BeforeMaking) -> None:
    if await _revision(ledger) == HEAD:
        return
    database = module_of(ledger.dialect.name)
    async with database.migrating(ledger, url) as conn:
        before = await _revision_in(conn)
        if before is None:
            await before_making()
        await conn.run_sync(_migrate, database.called(url))
    if before is None:
        _log.info("a new ledger, with tables of revision %s", HEAD)
    elif before != HEAD:  # another process may have been first
        _log.info("the ledger's tables are of revision %s, and were of %s", HEAD, before)


async def _revision(ledger: AsyncEngine) -> str | None:
    async with reading(ledger) as conn:
        return await _revision_in(conn)


async def _revision_in(conn: AsyncConnection) -> str | None:
    if not await conn.run_sync(_has_tables):
        return None
    revision: str | None = await conn.scalar(text(f"select version_num from {VERSION_TABLE}"))  # noqa: S608 - our own constant
    return revision


def _has_tables(conn: Connection) -> bool:
    return inspect(conn).has_table(VERSION_TABLE)


def _migrate(conn: Connection, called: str) -> None:
    # Half a second of imports, only for a migration.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "segments.ledger:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = conn
    try:
        command.upgrade(config, HEAD)
    except CommandError:
        raise LedgerUnusable(
            f"{called}: written by a later version of this software than this one"
        ) from None
