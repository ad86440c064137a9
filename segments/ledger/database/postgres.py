"""
The ledger on PostgreSQL: connections, isolation, and transient faults.

asyncpg reads the URL itself, so all of libpq's parameters work (`sslmode`, `passfile`, several
hosts), and the engine, which gets printed, never holds it.

A write is READ COMMITTED and takes the row locks that its queries name, so no serialization failure
needs a retry. Changes of the catalog and new opt-outs take turns (`segments.ledger.revision`). A
read is a snapshot, REPEATABLE READ and READ ONLY, which never waits or fails.

A server's restart or failover fails work in progress with `LedgerAway`. A pooler must pool
sessions, not transactions: statements are prepared.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import unquote, urlsplit

import asyncpg
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from segments.ledger.database.errors import (
    BUSY,
    DAMAGED,
    LOCKED,
    UNREACHABLE,
    LedgerAway,
    LedgerUnusable,
    cause_by_code,
)
from segments.runtime import causes
from segments.runtime.causes import Cause

_CONNECT_WITHIN_S = 10.0
_ANSWER_WITHIN_S = 60.0
"""The only notice of a server that vanished silently."""

_LOCK_WITHIN_S = 30.0

_POOL_SIZE = 5
_MIGRATION_LOCK = int.from_bytes(b"segments")
"""Ours among this database's advisory locks."""

_ROOM_TABLE: Final = (
    "create temporary table if not exists rtb_segments_room (filling name) on commit delete rows"
)
_TAKE_ROOM: Final = "insert into pg_temp.rtb_segments_room select 'x' from generate_series(1, 2800)"
"""256 KiB: a `name` has 64 bytes that are never compressed, in a row of 92."""

_SQLSTATE_TO_CAUSE: Final = {
    "08": UNREACHABLE,
    "25006": causes.READ_ONLY,
    "40": BUSY,  # a deadlock, say
    "53100": causes.FULL,
    "53": BUSY,
    "55P03": LOCKED,
    "57014": BUSY,  # the server's own statement timeout
    "57": UNREACHABLE,  # the server stops or starts
    "58": causes.ILL,
    "XX001": DAMAGED,
    "XX002": DAMAGED,
}
"""By SQLSTATE prefix, first match; all other states are faults of our statements."""

SNAPSHOT = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
"""Options of a read-only connection."""

_SESSION = f"""
select set_config('lock_timeout', '{_LOCK_WITHIN_S:.0f}s', false),
  -- An opt-out that was acknowledged must outlive a power cut. Stricter settings stay.
  case current_setting('synchronous_commit') when 'off'
  then set_config('synchronous_commit', 'on', false) end
"""


def called(url: str, *, is_there: bool = True) -> str:
    """Return the ledger's name in messages: its location, without credentials."""
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2] or "local server"
    return f"ledger {'' if is_there else 'in '}{where}/{unquote(parts.path).strip('/')}"


def may_be_there(_url: str) -> bool:
    """Return `True`: only the server can tell whether the ledger exists."""
    return True


def make_engine(url: str) -> AsyncEngine:
    """Make the engine for a server, without a connection."""
    return _make_engine(url, answer_within_s=_ANSWER_WITHIN_S)


@asynccontextmanager
async def migrating(_ledger: AsyncEngine, url: str) -> AsyncIterator[AsyncConnection]:
    """
    Yield a transaction that may change the tables; processes take turns.

    Raises:
        LedgerUnusable: The database's encoding can't hold every name.
    """
    # Without a timeout: another process's turn, or a large table's index, may take long.
    patient = _make_engine(url, answer_within_s=None)
    try:
        async with patient.begin() as conn:
            await conn.execute(text("set local lock_timeout = 0"))
            take_turn = text("select pg_advisory_xact_lock(:lock)")
            await conn.execute(take_turn, {"lock": _MIGRATION_LOCK})
            encoding = await conn.scalar(text("show server_encoding"))
            if encoding != "UTF8":
                raise LedgerUnusable(f"{called(url)}: its encoding is {encoding}, not UTF8")
            yield conn
    finally:
        await patient.dispose()


async def check_writable(ledger: AsyncEngine) -> None:
    """
    Check that a write can begin, and that its disk has some room; keep nothing.

    The disk is the server's, so only a write tells: a temporary table grows by 256 KiB, and the
    commit empties it. Its rows are in no log of changes, whose want of room would end the server.
    A user who may make no such table is not checked.

    Raises:
        LedgerAway: It can't.
    """
    async with ledger.connect() as conn:
        if await conn.scalar(text("select current_setting('transaction_read_only')")) == "on":
            raise LedgerAway("ledger", causes.READ_ONLY)
        may = "select has_database_privilege(current_database(), 'TEMP')"
        if await conn.scalar(text(may)):
            await conn.execute(text(_ROOM_TABLE))
            await conn.execute(text(_TAKE_ROOM))
            await conn.commit()


def words_of(error: DBAPIError) -> str:
    """Return the server's message without its details, which quote rows."""
    return _first_line(error.orig)


def _make_engine(url: str, *, answer_within_s: float | None) -> AsyncEngine:
    name = called(url)

    async def connect() -> asyncpg.Connection:
        return await _connect(url, name, answer_within_s)

    def tell_what_will_pass(context: ExceptionContext) -> None:
        if context.is_pre_ping and context.is_disconnect:
            return  # the pool connects anew, and only that may fail
        error = context.original_exception
        if isinstance(error.__cause__, asyncpg.PostgresError):
            # It quotes the row, as in "Key (id)=(...) already exists".
            error.__cause__.detail = None
        cause = _cause_of(error) or (UNREACHABLE if context.is_disconnect else None)
        if cause is causes.READ_ONLY and _only_reads(context.connection):
            cause = None  # a statement of ours that writes on a read-only connection
        if cause is not None:
            raise LedgerAway(name, cause, _first_line(error)) from None

    ledger = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        isolation_level="READ COMMITTED",
        hide_parameters=True,
        pool_pre_ping=True,
        pool_size=_POOL_SIZE,
        max_overflow=_POOL_SIZE,
    )
    event.listen(ledger.sync_engine, "handle_error", tell_what_will_pass)
    return ledger


async def _connect(url: str, name: str, answer_within_s: float | None) -> asyncpg.Connection:
    is_named = "application_name=" in url
    try:
        conn = await asyncpg.connect(
            url,
            timeout=_CONNECT_WITHIN_S,
            command_timeout=answer_within_s,
            server_settings=None if is_named else {"application_name": "rtb-segments"},
        )
        await conn.execute(_SESSION)
    except asyncpg.PostgresError as error:
        cause = _cause_of(error)
        if cause is not None:
            raise LedgerAway(name, cause, _first_line(error)) from None
        raise LedgerUnusable(f"{name}: {_first_line(error)}") from None
    except OSError as error:
        raise LedgerAway(name, _cause_of(error) or UNREACHABLE, type(error).__name__) from None
    except (ValueError, OverflowError, asyncpg.InterfaceError):
        # Not the parser's message, which quotes parts of the URL.
        raise LedgerUnusable(f"{name}: SEGMENTS_LEDGER_URL says something unknown") from None
    return conn


def _only_reads(conn: Connection | None) -> bool:
    return conn is not None and "postgresql_readonly" in conn.get_execution_options()


def _cause_of(error: BaseException) -> Cause | None:

    if isinstance(error, OSError):
        cause = causes.of_os_error(error)
        return cause if cause is causes.DESCRIPTORS else UNREACHABLE
    return cause_by_code(_SQLSTATE_TO_CAUSE, getattr(error, "sqlstate", None) or "")


def _first_line(error: BaseException | None) -> str:
    # The adapter's message has a type's name first; the cause has the server's.
    cause = error.__cause__ if error is not None and error.__cause__ is not None else error
    if not cause or not cause.args:
        return type(cause).__name__
    return str(cause.args[0]).partition("\n")[0]
