"""
Faults of single work items: logged, and retried in the next round.

The log says kind and place, never the message, which may quote a file name or a statement's values.
"""

import logging
from collections.abc import Awaitable, Callable

from segments.projection.causes import away_by
from segments.runtime.bug_place import bug_place

_LOG_AGAIN_AFTER_S = 300.0
_MAX_FAULTS = 1000


class Faults:
    """The faults of a process; recurring faults are logged every few minutes."""

    def __init__(self, log: logging.Logger, now_s: Callable[[], float]) -> None:
        self._log = log
        self._now_s = now_s
        self._logged_at_s: dict[str, float] = {}

    async def guarded(self, what: str, work: Awaitable[None]) -> None:
        """Do a work item; log its failure."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - a fault of a file must not delay others
            self._log_fault(f"{what}: {_in_words(error)}")

    def _log_fault(self, fault: str) -> None:

        now_s = self._now_s()
        last_s = self._logged_at_s.get(fault)
        if last_s is None or abs(now_s - last_s) >= _LOG_AGAIN_AFTER_S:
            if len(self._logged_at_s) >= _MAX_FAULTS:
                self._logged_at_s.clear()
            self._logged_at_s[fault] = now_s
            self._log.error("%s", fault)


def _in_words(error: Exception) -> str:
    away = away_by(error)
    if away is not None:
        return str(away)
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__} ({error.strerror})"
    return bug_place(error)
