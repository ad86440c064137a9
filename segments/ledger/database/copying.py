"""
Copies a ledger while it is in use, and puts a copy back.

    SQLite        its backup API, in one step: it reads a snapshot and keeps no writer waiting
    PostgreSQL    `pg_dump` in our own snapshot (`pg_export_snapshot`), and `pg_restore`

A copy is one file, readable by our user alone: it holds persons' ids, signing keys and salts. It
keeps its revision. `cp ledger.db` makes none: the last writes are in `ledger.db-wal`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Literal

from sqlalchemy import inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ledger.database import sqlite_copy
from segments.ledger.database.engine import module_of, reading
from segments.ledger.database.errors import CannotCopy, NoLedger
from segments.ledger.migrations import HEAD, VERSION_TABLE

__all__ = ["CannotCopy"]


@asynccontextmanager
async def as_it_is(url: str) -> AsyncIterator[AsyncEngine]:
    """
    Open a ledger for the context's lifetime, without migration.

    Raises:
        NoLedger: There is none.
        segments.ledger.database.errors.LedgerUnusable: It can't be reached or read.
    """
    database = module_of(url.partition(":")[0])
    if not database.may_be_there(url):
        raise NoLedger(f"no {database.called(url, is_there=False)}")
    ledger = database.make_engine(url)
    try:
        async with reading(ledger) as conn:
            if not await conn.run_sync(lambda sync: inspect(sync).has_table(VERSION_TABLE)):
                raise NoLedger(f"no {database.called(url, is_there=False)}")
        yield ledger
    finally:
        await ledger.dispose()


def database_of(ledger: AsyncEngine) -> Literal["sqlite", "postgresql"]:
    """Return the ledger's database."""
    return _database(ledger.dialect.name)


def database_of_url(url: str) -> Literal["sqlite", "postgresql"]:
    """Return the database of a ledger's URL."""
    return _database(url.partition(":")[0])


async def revision_of(conn: AsyncConnection) -> str:
    """Return the revision of the ledger's tables."""
    return str(await conn.scalar(text(f"select version_num from {VERSION_TABLE}")))  # noqa: S608 - our own constant


async def size_bytes(conn: AsyncConnection) -> int:
    """Return the most bytes that a copy takes."""
    return int(await _copier(conn.dialect.name).size_bytes(conn))


async def copy_to(conn: AsyncConnection, url: str, file: Path) -> None:
    """
    Copy the ledger in this connection's snapshot.

    `conn` reads, after its first query; `file` does not exist yet.

    Raises:
        CannotCopy: The ledger is damaged, or `pg_dump` fails.
    """
    await _copier(conn.dialect.name).copy_to(conn, url, file)


async def check_may_be_replaced(url: str, *, replaces: bool) -> None:
    """
    Check that a copy may take the ledger's place; change nothing.

    `replaces`: an existing ledger may be replaced.

    Raises:
        CannotCopy: There is a ledger, or a process that uses it.
    """
    await _copier(url.partition(":")[0]).check_may_be_replaced(url, replaces=replaces)


async def put_back(file: Path, url: str) -> None:
    """
    Put a copy in the ledger's place, whole or not at all.

    Raises:
        CannotCopy: The database refuses.
        OSError: The disk refuses.
    """
    await _copier(url.partition(":")[0]).put_back(file, url)


def is_of_later_version(revision: str) -> bool:
    """Tell whether tables of this revision are of a later version of this software."""
    return revision > HEAD


def _database(name: str) -> Literal["sqlite", "postgresql"]:
    return "postgresql" if name == "postgresql" else "sqlite"


def _copier(name: str) -> ModuleType:
    # Imported on demand: without PostgreSQL its driver may be absent.
    if name == "postgresql":
        from segments.ledger.database import postgres_copy  # noqa: PLC0415

        return postgres_copy
    return sqlite_copy
