"""
Why the ledger can't be used, in one line for the operator.

No message holds a URL, which may hold a password, or what a statement was
about, which may be a person's id.
"""

from typing import Final

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout


class LedgerUnusable(Exception):
    """The ledger can't be opened or used; the operator must change something."""


class LedgerAway(LedgerUnusable):
    """
    The ledger can't be used now, and that will pass: its server is down, say.

    Nobody's file is to blame. Whatever was not committed was not done, and may
    be done again.
    """


class NoLedger(LedgerUnusable):
    """There is no ledger where one is looked for, and whoever looks may not make one."""


LEDGER_PASSES: Final = (LedgerAway, OperationalError, InterfaceError, PoolTimeout)
"""What a ledger raises that is away, locked, full or read-only, and not for what it was asked."""

LEDGER_FAILURES: Final = (LedgerAway, SQLAlchemyError, OSError)
"""Whatever it may raise, on either database: a loop that looks at it in turns goes on."""


def will_pass(error: BaseException) -> bool:
    """Tell whether it is the ledger or its disk that fails, and not what was asked of it."""
    if isinstance(error, OperationalError):
        # SQLite says so of a statement that it can't read, too: a bug.
        return getattr(error.orig, "sqlite_errorname", "") != "SQLITE_ERROR"
    return isinstance(error, (*LEDGER_PASSES, OSError)) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )
