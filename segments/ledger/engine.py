"""
Opens the ledger: the engine, its pragmas, and its tables brought up to date.

    async with open_ledger(settings) as ledger:
        async with ledger.begin() as conn:      # a write: all of it or nothing
            ...
        async with reading(ledger) as conn:     # a snapshot: never waits for a writer
            ...

On SQLite a transaction takes the write lock when it begins (`BEGIN IMMEDIATE`).
One that began by reading and then wants to write is refused at once, whatever
the timeout, if another wrote meanwhile; so only `reading` begins without it.
`synchronous=FULL` because an opt-out that was acknowledged must outlive a power
cut; a commit costs one fsync.

Any number of processes may open a fresh ledger at once: they take turns behind
a lock file, and whoever is first makes the tables.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from segments.ledger.migrations import HEAD, VERSION_TABLE
from segments.settings import Settings

_BUSY_TIMEOUT_MS = 30_000
_READS_ONLY = "ledger_reads_only"


class LedgerUnusable(Exception):
    """The ledger can't be opened; the message tells the operator why."""


@asynccontextmanager
async def open_ledger(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """
    Open the ledger for as long as the context lasts, its tables up to date.

    Raises:
        LedgerUnusable: The file can't be read or written, is no ledger, or is
            of a later version of this software.
    """
    path = Path(make_url(settings.ledger_dsn).database or "")
    try:
        # It names persons' ids: nobody but us reads it or the files beside it.
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode=0o600))
    except FileExistsError:
        raise LedgerUnusable(f"ledger {path}: its directory is a file") from None
    except OSError as error:
        raise LedgerUnusable(f"ledger {path}: {error.strerror}") from None

    ledger = create_async_engine(settings.ledger_dsn)
    event.listen(ledger.sync_engine, "connect", _set_pragmas)
    event.listen(ledger.sync_engine, "begin", _begin)
    try:
        try:
            await _bring_up_to_date(ledger, path)
        except DBAPIError as error:
            raise LedgerUnusable(f"ledger {path}: {error.orig}") from None
        yield ledger
    finally:
        await ledger.dispose()


@asynccontextmanager
async def reading(ledger: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Give a connection that sees one state of the ledger and can't be used to write."""
    async with ledger.connect() as conn:
        await conn.execution_options(**{_READS_ONLY: True})
        yield conn


async def _bring_up_to_date(ledger: AsyncEngine, path: Path) -> None:
    if await _revision(ledger) == HEAD:
        return
    async with _turn(path.with_name(f"{path.name}.lock")):
        # Kept in the file, and switched only here: it needs the file to itself,
        # and SQLite does not wait for that, whatever the timeout.
        async with ledger.connect() as conn:
            raw = await conn.get_raw_connection()
            await raw.driver_connection.execute("PRAGMA journal_mode=WAL")  # type: ignore[union-attr]
        async with ledger.begin() as conn:
            await conn.run_sync(_migrate, path)


async def _revision(ledger: AsyncEngine) -> str | None:
    async with reading(ledger) as conn:
        is_there = text("select 1 from sqlite_master where name = :name")
        if not await conn.scalar(is_there, {"name": VERSION_TABLE}):
            return None
        revision: str | None = await conn.scalar(text(f"select version_num from {VERSION_TABLE}"))  # noqa: S608 - our own constant
        return revision


def _migrate(conn: Connection, path: Path) -> None:
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
            f"ledger {path}: written by a later version of this software than this one"
        ) from None


@asynccontextmanager
async def _turn(lock: Path) -> AsyncIterator[None]:
    """Wait for the other processes that are opening the same ledger."""
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode=0o600)
    try:
        await asyncio.to_thread(fcntl.flock, fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _set_pragmas(dbapi_connection: Any, _record: object) -> None:
    # The driver would begin transactions on its own, and later than we do.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin(conn: Connection) -> None:
    reads_only = conn.get_execution_options().get(_READS_ONLY, False)
    conn.exec_driver_sql("BEGIN DEFERRED" if reads_only else "BEGIN IMMEDIATE")
