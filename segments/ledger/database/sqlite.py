"""
The ledger in one file: SQLite's pragmas, locks and file permissions.

A transaction takes the write lock at its start (`BEGIN IMMEDIATE`): if it began by reading and
another wrote in between, SQLite refuses its write at once, whatever the timeout. Only reading
transactions begin without. `synchronous=FULL`, an fsync a commit, because an acknowledged opt-out
must survive a power cut.

Errors of SQLite's file or disk, not of a statement, are `LedgerAway`.
"""

import asyncio
import errno
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from segments.ledger.database.errors import (
    DAMAGED,
    LOCKED,
    NO_DATABASE,
    LedgerAway,
    LedgerUnusable,
    cause_by_code,
)
from segments.runtime import causes
from segments.runtime.causes import Cause
from segments.runtime.descriptors import descriptors_are_left

_BUSY_TIMEOUT_MS = 30_000
_LOOK_WITHIN_MS = 500
_READS_ONLY = "ledger_reads_only"

_KEPT_LOG_BYTES = 4 << 20
"""Of the write-ahead log, to which a checkpoint cuts it; otherwise a large transaction's size
stays until the last process closes it."""

_NAME_TO_CAUSE: Final = {
    "SQLITE_BUSY": LOCKED,
    "SQLITE_LOCKED": LOCKED,
    "SQLITE_PROTOCOL": LOCKED,
    "SQLITE_FULL": causes.FULL,
    "SQLITE_READONLY": causes.READ_ONLY,
    "SQLITE_PERM": causes.FORBIDDEN,
    "SQLITE_CANTOPEN": causes.OTHER,
    "SQLITE_IOERR_SHMSIZE": causes.FULL,  # the index of its log, which each first opening makes
    "SQLITE_IOERR": causes.ILL,
    "SQLITE_NOMEM": causes.NO_MEMORY,
    "SQLITE_CORRUPT": DAMAGED,
    "SQLITE_NOTADB": NO_DATABASE,
}
"""By prefix of the error's name; all other errors are faults of our statements."""

_OF_ITS_FILE: Final = (causes.OTHER, causes.READ_ONLY, causes.ILL)
"""For these the file itself may tell more."""

SNAPSHOT = {_READS_ONLY: True}
"""Options of a read-only connection."""


def called(url: str, *, is_there: bool = True) -> str:
    """Return the ledger's name in messages, or its directory's if it does not exist."""
    return f"ledger {_path(url)}" if is_there else f"ledger in {_path(url).parent}"


def may_be_there(url: str) -> bool:
    """Tell whether opening the path finds a ledger, or an error."""
    path = _path(url)
    return path.exists() or (path.parent.exists() and not path.parent.is_dir())


def make_engine(url: str) -> AsyncEngine:
    """
    Make the engine for a file, which is created if missing.

    Raises:
        LedgerUnusable: The file can't be read or written.
    """
    path = _path(url)
    name = called(url)
    try:
        # The ledger holds persons' ids: only our user may read it and its side files.
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _see_that_there_is_one(path)
    except FileExistsError:
        raise LedgerUnusable(f"{name}: its directory is a file") from None
    except OSError as error:
        raise LedgerUnusable(f"{name}: {error.strerror}") from None

    def tell_what_will_pass(context: ExceptionContext) -> None:
        cause = _cause_of(context.original_exception, path)
        if cause is not None:
            raise LedgerAway(name, cause) from None

    # Read at SQLite's first use. Queries spill to the ledger's own disk, where operators make room,
    # and which every container has.
    os.environ.setdefault("SQLITE_TMPDIR", str(path.parent.absolute()))
    ledger = create_async_engine(url, hide_parameters=True)
    event.listen(ledger.sync_engine, "handle_error", tell_what_will_pass)
    event.listen(ledger.sync_engine, "connect", _set_pragmas)
    event.listen(ledger.sync_engine, "begin", _begin)
    return ledger


@asynccontextmanager
async def migrating(ledger: AsyncEngine, url: str) -> AsyncIterator[AsyncConnection]:
    """Yield a transaction that may change the tables; processes take turns."""
    path = _path(url)
    async with _turn(path.with_name(f"{path.name}.lock")):
        # Stored in the file, and switched only here: SQLite needs exclusive use, and never waits.
        async with ledger.connect() as conn:
            raw = await conn.get_raw_connection()
            await raw.driver_connection.execute("PRAGMA journal_mode=WAL")  # type: ignore[union-attr]
        async with ledger.begin() as conn:
            yield conn


async def check_writable(ledger: AsyncEngine) -> None:
    """
    Check that a write can begin within `_LOOK_WITHIN_MS`; write nothing.

    Raises:
        LedgerAway: It can't.
    """
    async with ledger.connect() as conn:
        driver = (await conn.get_raw_connection()).driver_connection
        assert driver is not None, "it is connected"
        await driver.execute(f"PRAGMA busy_timeout={_LOOK_WITHIN_MS}")
        try:
            await conn.execute(text("select 1"))  # after `_begin`
        finally:
            await driver.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")


def words_of(error: DBAPIError) -> str:
    """Return SQLite's message."""
    return str(error.orig)


def _cause_of(error: BaseException, path: Path) -> Cause | None:

    cause = cause_by_code(_NAME_TO_CAUSE, getattr(error, "sqlite_errorname", ""))
    return _of_file(path) or cause if cause in _OF_ITS_FILE else cause


def _see_that_there_is_one(path: Path) -> None:
    """
    Create the file, readable by our user alone, if missing; never open an existing file.

    Raises:
        OSError: The file can't be created, or read and written.
    """
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode=0o600))
    elif path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    else:
        _check_rights(path)


def _of_file(path: Path) -> Cause | None:

    if not descriptors_are_left():
        return causes.DESCRIPTORS
    try:
        path.stat()
        _check_rights(path)
        disk = os.statvfs(path)
    except OSError as said:
        return causes.of_os_error(said)
    # Some file systems count no files.
    is_full = not disk.f_bavail or (disk.f_files and not disk.f_favail)
    return causes.FULL if is_full else None


def _check_rights(path: Path) -> None:
    """
    Check that a file can be read and written, without opening it.

    POSIX drops a process's locks on a file, SQLite's too, as soon as the process closes any
    descriptor of it (https://sqlite.org/howtocorrupt.html, 2.2).

    Raises:
        OSError: It can't be.
    """
    if not os.access(path, os.R_OK | os.W_OK):
        is_read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        code = errno.EROFS if is_read_only else errno.EACCES
        raise OSError(code, os.strerror(code))


def _path(url: str) -> Path:
    return Path(make_url(url).database or "")


@asynccontextmanager
async def _turn(lock: Path) -> AsyncIterator[None]:
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode=0o600)
    try:
        await asyncio.to_thread(fcntl.flock, fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _set_pragmas(dbapi_connection: Any, _record: object) -> None:
    # Otherwise the driver begins transactions itself, and later than we do.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA journal_size_limit={_KEPT_LOG_BYTES}")
    cursor.close()


def _begin(conn: Connection) -> None:
    reads_only = conn.get_execution_options().get(_READS_ONLY, False)
    conn.exec_driver_sql("BEGIN DEFERRED" if reads_only else "BEGIN IMMEDIATE")
