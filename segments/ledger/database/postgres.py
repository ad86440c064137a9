"""
The ledger on PostgreSQL: connections, isolation, and faults that will pass.

asyncpg reads the URL itself, so it may say all that libpq's may (`sslmode`,
`passfile`, several hosts), and the engine, which gets printed, never holds it.

A write is READ COMMITTED and takes the row locks that its queries name: there
are no serialization failures to repeat. Those that change the catalog, or
record opt-outs, take turns at one row (`segments.ledger.revision`). A read is one
snapshot, REPEATABLE READ and READ ONLY, which never waits and never fails.

A server that restarts or fails over makes whatever was under way fail with
`LedgerAway`; the pool then connects anew. Behind a pooler, sessions must be
pooled, not transactions: statements are prepared.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import unquote, urlsplit

import asyncpg
from sqlalchemy import event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from segments.ledger.database.errors import LedgerAway, LedgerUnusable

_CONNECT_WITHIN_S = 10.0
_ANSWER_WITHIN_S = 60.0
"""A server that is gone without a word is noticed by this alone."""

_LOCK_WITHIN_S = 30.0

_POOL_SIZE = 5
_MIGRATION_LOCK = int.from_bytes(b"segments")
"""Of this database alone, among the advisory locks of all who use it."""

# Connection, transaction rollback (deadlock), insufficient resources, lock
# timeout, operator intervention (shutdown, starting up), I/O error.
_WILL_PASS = ("08", "40", "53", "55P03", "57", "58")

SNAPSHOT = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
"""The options of a connection that only reads."""

_SESSION = f"""
select set_config('lock_timeout', '{_LOCK_WITHIN_S:.0f}s', false),
  -- An opt-out that was acknowledged must outlive a power cut. Stricter settings stay.
  case current_setting('synchronous_commit') when 'off'
  then set_config('synchronous_commit', 'on', false) end
"""


def called(url: str, *, is_there: bool = True) -> str:
    """Return what messages call this ledger: where it is, and nothing of how to get in."""
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2] or "local server"
    return f"ledger {'' if is_there else 'in '}{where}/{unquote(parts.path).strip('/')}"


def may_be_there(_url: str) -> bool:
    """Tell whether there is anything to look into: its server says."""
    return True


def make_engine(url: str) -> AsyncEngine:
    """Make the engine over a server, which is not asked for anything yet."""
    return _make_engine(url, answer_within_s=_ANSWER_WITHIN_S)


@asynccontextmanager
async def migrating(_ledger: AsyncEngine, url: str) -> AsyncIterator[AsyncConnection]:
    """
    Give a transaction that may change the tables; other processes wait for their turn.

    Raises:
        LedgerUnusable: The database can't hold every name.
    """
    # Over a connection of its own: the turn of another, or an index of a large
    # table, may take longer than any statement of ours otherwise should.
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


def words_of(error: DBAPIError) -> str:
    """Return what went wrong, in the server's words but for its details: they quote rows."""
    return _first_line(error.orig)


def _make_engine(url: str, *, answer_within_s: float | None) -> AsyncEngine:
    name = called(url)

    async def connect() -> asyncpg.Connection:
        return await _connect(url, name, answer_within_s)

    def tell_what_will_pass(context: ExceptionContext) -> None:
        error = context.original_exception
        if isinstance(error.__cause__, asyncpg.PostgresError):
            # It quotes the row, as in "Key (id)=(...) already exists", and a
            # traceback would print it.
            error.__cause__.detail = None
        if context.is_disconnect or _will_pass(error):
            raise LedgerAway(f"{name}: {_first_line(error)}") from None

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
        kind = LedgerAway if _will_pass(error) else LedgerUnusable
        raise kind(f"{name}: {_first_line(error)}") from None
    except OSError as error:
        raise LedgerAway(f"{name}: does not answer ({type(error).__name__})") from None
    except (ValueError, OverflowError, asyncpg.InterfaceError):
        # Not in the parser's words: they quote what they took for a port, say.
        raise LedgerUnusable(f"{name}: SEGMENTS_LEDGER_URL says something unknown") from None
    return conn


def _will_pass(error: BaseException) -> bool:
    sqlstate = getattr(error, "sqlstate", None) or ""
    return isinstance(error, OSError) or sqlstate.startswith(_WILL_PASS)


def _first_line(error: BaseException | None) -> str:
    # The adapter's own words begin with a type's name; the server's stand behind it.
    cause = error.__cause__ if error is not None and error.__cause__ is not None else error
    if not cause or not cause.args:
        return type(cause).__name__
    return str(cause.args[0]).partition("\n")[0]
