"""
Which part of the service an error comes from, and why that part can't be used.

All errors of an unavailable store, ledger, blob storage or machine are recognised here and
nowhere else. So doors, loader and loops agree on which errors are worth waiting out, and which
are bugs of ours.
"""

from typing import Final, NamedTuple

from obstore.exceptions import BaseError
from redis.exceptions import RedisError

from segments.ledger.database import errors
from segments.runtime import causes
from segments.runtime.causes import Cause
from segments.store.reader import StoreUnusable

_STORE: Final = Cause(503, "can't be used at the moment", "see `rtb-segments doctor`")


class Away(NamedTuple):
    """A part that can't be used now."""

    part: str
    cause: Cause

    def __str__(self) -> str:
        """Return a line for the operator."""
        return self.cause.of(self.part)


def away_by(error: BaseException) -> Away | None:
    """Return the part that an error comes from, and the cause; `None`: a bug, or a bad file."""
    if isinstance(error, (RedisError, StoreUnusable)):
        return Away("the store of memberships", _STORE)
    of_ledger = errors.cause_of(error)
    if of_ledger is not None:
        return Away("the ledger", of_ledger)
    if isinstance(error, BaseError):
        return Away("the storage", causes.UNANSWERED)
    if isinstance(error, OSError) and causes.is_of_the_machine(error):
        return Away("the storage", causes.of_os_error(error))
    return None
