"""
The ledger in one file: SQLite's pragmas, its locks, and who may read it.

A transaction takes the write lock when it begins (`BEGIN IMMEDIATE`). One that
began by reading and then wants to write is refused at once, whatever the
timeout, if another wrote meanwhile; so only what reads begins without it.
`synchronous=FULL` because an opt-out that was acknowledged must outlive a power
cut; a commit costs one fsync.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from segments.ledger.database.errors import LedgerUnusable

_BUSY_TIMEOUT_MS = 30_000
_READS_ONLY = "ledger_reads_only"

SNAPSHOT = {_READS_ONLY: True}
"""The options of a connection that only reads."""


def called(url: str, *, is_there: bool = True) -> str:
    """Return what messages call this ledger; or where none is."""
    return f"ledger {_path(url)}" if is_there else f"ledger in {_path(url).parent}"


def may_be_there(url: str) -> bool:
    """Tell whether there is anything to look into: a ledger, or what is none and says so."""
    path = _path(url)
    return path.exists() or (path.parent.exists() and not path.parent.is_dir())


def make_engine(url: str) -> AsyncEngine:
    """
    Make the engine over a file, which is created if need be.

    Raises:
        LedgerUnusable: The file can't be read or written.
    """
    path = _path(url)
    try:
        # It names persons' ids: nobody but us reads it or the files beside it.
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode=0o600))
    except FileExistsError:
        raise LedgerUnusable(f"{called(url)}: its directory is a file") from None
    except OSError as error:
        raise LedgerUnusable(f"{called(url)}: {error.strerror}") from None
    ledger = create_async_engine(url, hide_parameters=True)
    event.listen(ledger.sync_engine, "connect", _set_pragmas)
    event.listen(ledger.sync_engine, "begin", _begin)
    return ledger


@asynccontextmanager
async def migrating(ledger: AsyncEngine, url: str) -> AsyncIterator[AsyncConnection]:
    """Give a transaction that may change the tables; other processes wait for their turn."""
    path = _path(url)
    async with _turn(path.with_name(f"{path.name}.lock")):
        # Kept in the file, and switched only here: it needs the file to itself,
        # and SQLite does not wait for that, whatever the timeout.
        async with ledger.connect() as conn:
            raw = await conn.get_raw_connection()
            await raw.driver_connection.execute("PRAGMA journal_mode=WAL")  # type: ignore[union-attr]
        async with ledger.begin() as conn:
            yield conn


def words_of(error: DBAPIError) -> str:
    """Return what went wrong, in SQLite's words."""
    return str(error.orig)


def _path(url: str) -> Path:
    return Path(make_url(url).database or "")


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
