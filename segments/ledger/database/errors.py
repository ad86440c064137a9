"""
Why the ledger can't be used, in a line for the operator.

No message holds a URL, which may contain a password, or a statement's values, maybe persons' ids.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from segments.runtime.causes import Cause


class LedgerUnusable(Exception):
    """The ledger can't be used until the operator changes something."""


class LedgerAway(LedgerUnusable):
    """
    The ledger can't be used at present: its server is down, say.

    A file is never at fault. Uncommitted work can be repeated.
    """

    def __init__(self, called: str, cause: Cause, said: str = "") -> None:
        """
        `called` names the ledger in messages; `said` is the server's message, if it quotes no row.
        """
        super().__init__(cause.of(called, said))
        self.cause = cause


class NoLedger(LedgerUnusable):
    """The ledger does not exist, and the caller may not create it."""


class CannotCopy(LedgerUnusable):
    """The ledger can't be copied or put back; the message says why."""


LEDGER_PASSES: Final = (LedgerAway, PoolTimeout)
"""
Errors of a ledger that is away, locked, full or read-only; never a statement's fault.

`LedgerAway` stands for both drivers' errors; `PoolTimeout`: all connections of the process are
in use.
"""

LEDGER_FAILURES: Final = (LedgerAway, SQLAlchemyError, OSError)
"""Every error of either database; loops that poll the ledger survive them."""

BUSY: Final = Cause(503, "has too much to do", "look at what else uses it")
LOCKED: Final = Cause(503, "is locked by another process", "end what holds it: a copy, a shell")
DAMAGED: Final = Cause(503, "is damaged", "put a backup in its place")
NO_DATABASE: Final = Cause(503, "is no database", "put a backup in its place")
UNREACHABLE: Final = Cause(503, "does not answer", "see that its server runs and can be reached")


def cause_by_code(code_to_cause: Mapping[str, Cause], code: str) -> Cause | None:
    """Return the cause of the first matching prefix; `None` for a faulty statement."""
    return next((cause for begins, cause in code_to_cause.items() if code.startswith(begins)), None)


def cause_of(error: BaseException) -> Cause | None:
    """Return why the ledger is away; `None` for a faulty statement."""
    if isinstance(error, LedgerAway):
        return error.cause
    if isinstance(error, PoolTimeout):
        return BUSY
    return None
