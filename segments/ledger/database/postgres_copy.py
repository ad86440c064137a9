"""PostgreSQL's part of `segments.ledger.database.copying`."""

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from sqlalchemy import inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger.database.engine import reading
from segments.ledger.database.errors import CannotCopy
from segments.ledger.database.postgres import called, make_engine
from segments.ledger.migrations import VERSION_TABLE

_OTHERS = """
select count(*) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
"""


async def size_bytes(conn: AsyncConnection) -> int:
    """Return the size of the database; a dump is smaller."""
    return int(await conn.scalar(text("select pg_database_size(current_database())")) or 0)


async def copy_to(conn: AsyncConnection, url: str, file: Path) -> None:
    """Dump the database in this connection's snapshot."""
    snapshot = await conn.scalar(text("select pg_export_snapshot()"))
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode=0o600))
    options = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}"]
    await _run(["pg_dump", *options, f"--file={file}"], url)


async def check_may_be_replaced(url: str, *, replaces: bool) -> None:
    """Check that the database has no ledger, or that no other session is connected."""
    ledger = make_engine(url)
    try:
        async with reading(ledger) as conn:
            if not await conn.run_sync(lambda sync: inspect(sync).has_table(VERSION_TABLE)):
                return
            others = await conn.scalar(text(_OTHERS))
    finally:
        await ledger.dispose()
    if not replaces:
        raise CannotCopy(f"there is a ledger already, {called(url)}")
    if others:
        raise CannotCopy(f"{others} sessions use {called(url)}: stop all processes first")


async def put_back(file: Path, url: str) -> None:
    """Restore a dump, in one transaction."""
    options = ["--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction"]
    await _run(["pg_restore", *options, "--exit-on-error", str(file)], url)


class _Login(NamedTuple):
    url: str  # without the password
    password: str | None


async def _run(command: Sequence[str], url: str) -> None:
    program = shutil.which(command[0])
    if program is None:
        raise CannotCopy(
            f"{command[0]} is not installed here: it is in PostgreSQL's client package, and must be"
            " as new as the server"
        )
    login = _login(url)
    env = dict(os.environ)
    if login.password is not None:
        env["PGPASSWORD"] = login.password  # arguments can be seen by every user
    process = await asyncio.create_subprocess_exec(
        program, *command[1:], f"--dbname={login.url}", stderr=asyncio.subprocess.PIPE, env=env
    )
    try:
        _, said = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        # The first line alone: further ones may quote rows.
        first = said.decode(errors="replace").partition("\n")[0]
        raise CannotCopy(f"{command[0]}: {first.removeprefix(f'{command[0]}: ')}")


def _login(url: str) -> _Login:
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    password = options.pop("password", None)
    user, _, hosts = parts.netloc.rpartition("@")
    name, colon, in_front = user.partition(":")
    if colon:
        password = unquote(in_front)
    netloc = f"{name}@{hosts}" if user else hosts
    query = urlencode(options, quote_via=quote, safe="/")
    return _Login(parts._replace(netloc=netloc, query=query).geturl(), password)
