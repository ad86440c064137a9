"""
An error's part of the service, and why that can't be used.

Errors of an unavailable store, ledger, blob storage or machine are recognised only here, so callers
agree on which to wait out, and which are bugs.
"""

from typing import Final, NamedTuple

from obstore.exceptions import BaseError
from redis.exceptions import RedisError

from segments.files.obstore_errors import RightMissing
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
    """Return an error's part and cause; `None`: a bug, or a bad file."""
    if isinstance(error, (RedisError, StoreUnusable)):
        return Away("the store of memberships", _STORE)
    of_ledger = errors.cause_of(error)
    if of_ledger is not None:
        return Away("the ledger", of_ledger)
    if isinstance(error, RightMissing):
        return Away("the storage", Cause(503, str(error), "give its credentials that right"))
    if isinstance(error, BaseError):
        return Away("the storage", causes.UNANSWERED)
    if isinstance(error, OSError) and causes.is_of_the_machine(error):
        return Away("the storage", causes.of_os_error(error))
    return None
