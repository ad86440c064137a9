"""
Logs refusals of partners, for the operator whom a partner asks.

A line has partner, operation and reason, without a file name; at most once a minute.
"""

import logging
import time
from collections.abc import Callable

_AGAIN_AFTER_S = 60.0
_MAX_KEPT = 1000


class RefusalLog:
    """Logs a process's refusals."""

    def __init__(self, log: logging.Logger, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock_s = clock_s
        self._told_at_s: dict[tuple[str | None, str, str], float] = {}

    def tell(self, partner_id: str | None, operation: str, reason: str) -> None:
        """Log a refusal; `partner_id` is `None` before login."""
        key, now_s = (partner_id, operation, reason), self._clock_s()
        if now_s - self._told_at_s.get(key, -_AGAIN_AFTER_S) < _AGAIN_AFTER_S:
            return
        if len(self._told_at_s) >= _MAX_KEPT:
            self._told_at_s.clear()
        self._told_at_s[key] = now_s
        if partner_id is None:
            self._log.warning("%s refused: %s", operation, reason)
        else:
            self._log.warning("%r: %s refused: %s", partner_id, operation, reason)
