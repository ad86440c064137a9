"""
What goes wrong with one piece of work: logged, and tried again at the next turn.

By its kind and place, never by the message, which could name a file or quote a
statement with its values.
"""

import logging
from collections.abc import Awaitable, Callable

from segments.runtime.bug_place import bug_place

_LOG_AGAIN_AFTER_S = 300.0
_MAX_FAULTS = 1000


class Faults:
    """The faults of one process, each logged now and then."""

    def __init__(self, log: logging.Logger, now_s: Callable[[], float]) -> None:
        self._log = log
        self._now_s = now_s
        self._logged_at_s: dict[str, float] = {}

    async def guarded(self, what: str, work: Awaitable[None]) -> None:
        """Do a piece of work; what stops it is logged and tried again at the next turn."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - one file keeps no other waiting
            self._log_fault(f"{what}: {_in_words(error)}")

    def _log_fault(self, fault: str) -> None:
        """Log a fault that may come again every second, but not so often."""
        now_s = self._now_s()
        last_s = self._logged_at_s.get(fault)
        if last_s is None or now_s - last_s >= _LOG_AGAIN_AFTER_S:
            if len(self._logged_at_s) >= _MAX_FAULTS:
                self._logged_at_s.clear()
            self._logged_at_s[fault] = now_s
            self._log.error("%s", fault)


def _in_words(error: Exception) -> str:
    # Not the message: it names the file, or quotes the statement with its values.
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__} ({error.strerror})"
    return bug_place(error)
