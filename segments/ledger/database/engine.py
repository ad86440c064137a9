"""
Opens the ledger: the engine, and its tables brought up to date.

    async with open_ledger(url) as ledger:
        async with ledger.begin() as conn:      # a write: all of it or nothing
            ...
        async with reading(ledger) as conn:     # a snapshot: never waits for a writer
            ...

SQLite or PostgreSQL, as the URL says; what differs stands in `sqlite.py` and
`postgres.py`, and nothing above this module knows which it is. Queries keep to
what both do alike: a row that is read to be changed is locked, which SQLite,
where writers take turns, takes no notice of.

Any number of processes may open a fresh ledger at once: they take turns, and
whoever is first makes the tables. Few of them may make one (see
`segments.projection.one_ledger`); the others wait a little for one that is being made.
"""

import asyncio
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

BeforeMaking = Callable[[], Awaitable[None]]
"""Awaited, while nobody else can make one, before a ledger is made; raises to refuse."""

MADE_WITHIN_S = 5.0
"""How long a ledger that is being made is waited for."""

_LOOK_EVERY_S = 0.05


async def _ask_nobody() -> None:
    """Let it be made."""


@asynccontextmanager
async def existing_ledger(url: str) -> AsyncIterator[AsyncEngine]:
    """
    Open the ledger likewise, if there is one within `MADE_WITHIN_S`.

    Raises:
        NoLedger: There is none.
        LedgerUnusable: As `open_ledger`.
    """
    database = _module_of(url.partition(":")[0])
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
    Open the ledger for as long as the context lasts, its tables up to date.

    Args:
        url: `sqlite+aiosqlite` as SQLAlchemy takes it, or `postgresql` as asyncpg does.
        before_making: What must be seen to if there is none yet.

    Raises:
        LedgerUnusable: It can't be reached, read or written, is no ledger, or
            is of a later version of this software; or it may not be made.
    """
    database = _module_of(url.partition(":")[0])
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
    """Give a connection that sees one state of the ledger and is not used to write."""
    async with ledger.connect() as conn:
        await conn.execution_options(**_module_of(ledger.dialect.name).SNAPSHOT)
        yield conn


def _module_of(name: str) -> ModuleType:
    # Each when it is needed: where there is no PostgreSQL, its driver need not be.
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
    database = _module_of(ledger.dialect.name)
    async with database.migrating(ledger, url) as conn:
        if not await conn.run_sync(_has_tables):
            await before_making()
        await conn.run_sync(_migrate, database.called(url))


async def _revision(ledger: AsyncEngine) -> str | None:
    async with reading(ledger) as conn:
        if not await conn.run_sync(_has_tables):
            return None
        revision: str | None = await conn.scalar(text(f"select version_num from {VERSION_TABLE}"))  # noqa: S608 - our own constant
        return revision


def _has_tables(conn: Connection) -> bool:
    return inspect(conn).has_table(VERSION_TABLE)


def _migrate(conn: Connection, called: str) -> None:
    # Half a second of imports, which a ledger that is up to date does without.
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
