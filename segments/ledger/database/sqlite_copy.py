"""SQLite's part of `segments.ledger.database.copying`."""

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.database.errors import CannotCopy

_SIDE_FILES: Final = ("-wal", "-shm", "-journal")


async def size_bytes(conn: AsyncConnection) -> int:
    """Return the size of the whole database."""
    pages, page_bytes = [
        int(await conn.scalar(text(f"pragma {name}")) or 0) for name in ("page_count", "page_size")
    ]
    return pages * page_bytes


async def copy_to(conn: AsyncConnection, _url: str, file: Path) -> None:
    """Copy the database, and check the copy."""
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode=0o600))
    driver = (await conn.get_raw_connection()).driver_connection
    assert driver is not None, "it is connected"
    with closing(sqlite3.connect(file, check_same_thread=False)) as copy:
        await driver.backup(copy)
    await asyncio.to_thread(_check, file)


async def check_may_be_replaced(url: str, *, replaces: bool) -> None:
    """Check that the file is missing, or that no process has it open."""
    path = _path(url)
    if not path.exists():
        return
    if not replaces:
        raise CannotCopy(f"there is a ledger already, {path}")
    await asyncio.to_thread(_close_whole, path)


async def put_back(file: Path, url: str) -> None:
    """Put a file in the ledger's place."""
    await asyncio.to_thread(_put_back, file, _path(url))


def _put_back(file: Path, path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.restored")
    new.unlink(missing_ok=True)
    with (
        file.open("rb") as read,
        os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600), "wb") as written,
    ):
        shutil.copyfileobj(read, written, 1 << 20)
        written.flush()
        os.fsync(written.fileno())
    for suffix in _SIDE_FILES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)  # of a damaged ledger
    new.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _close_whole(path: Path) -> None:
    """
    Bring the whole WAL into the file, which only its last user can: leaving WAL mode needs
    exclusive use of the file.
    """
    with closing(sqlite3.connect(path, timeout=1.0)) as old:
        try:
            old.execute("pragma journal_mode=delete")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise CannotCopy(
                    f"a process has the ledger {path} open: stop all processes first"
                ) from None
            raise CannotCopy(f"the ledger {path} can't be replaced: {error}") from None
        except sqlite3.DatabaseError:
            return  # damaged: there is nothing to keep


def _check(file: Path) -> None:
    with closing(sqlite3.connect(file)) as copy:
        try:
            (found,) = copy.execute("pragma quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            found = str(error)
    if found != "ok":
        raise CannotCopy("the ledger is damaged (PRAGMA quick_check): restore an earlier backup")


def _path(url: str) -> Path:
    return Path(make_url(url).database or "")
