"""
Problems for failures of our own.

An unavailable part is a 503, or 507 if it is full, with the cause and a Retry-After; a partner over
its quota gets 507 too; a bug, 500. Failures are logged by kind, cause and place, without the
error's message, which may quote the request.
"""

import logging
from typing import Final

from aiohttp import hdrs

from segments.doors.rest.problem import Problem
from segments.model.quota import OverQuota
from segments.projection.causes import Away, away_by
from segments.runtime import causes
from segments.runtime.bug_place import bug_place

_log = logging.getLogger(__name__)

COME_AGAIN_S: Final = 2


def problem_of(error: Exception) -> Problem:
    """Return the problem for an error that ended a request; log our own failures."""
    if isinstance(error, OverQuota):
        again_s = error.come_again_s
        headers: dict[str, str] = {} if again_s is None else {hdrs.RETRY_AFTER: str(again_s)}
        return Problem(507, str(error), headers=headers)
    away = away_by(error)
    if away is None and isinstance(error, OSError):
        away = Away("the storage", causes.OTHER)
    if away is None:
        _log.error("%s", bug_place(error))
        return Problem(500, "a fault of ours; it has been logged")
    _log.error("a request was refused: %s (%s)", away, type(error).__name__)
    return Problem(
        away.cause.status,
        f"{away.part} {away.cause.words}; send it again later",
        headers={hdrs.RETRY_AFTER: str(COME_AGAIN_S)},
    )
