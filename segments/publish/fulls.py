"""
Fulls made in the background, while increments are published: when one is due, and its result.

A full, made of the state that `LATEST` names and of later changes, replaces the last without
changing that state. Earlier increments stay listed for a while, for running followers.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final

from msgspec.structs import replace

from segments.publish.leftovers import KEPT_S
from segments.store.published.latest import Latest, PublishedFile

_log = logging.getLogger(__name__)

NUMBERS_A_S: Final = 1000
"""Numbers of states and of `LATEST` are times in ms, raised if equal."""

_MAX_INCREMENTS: Final = 500
"""More make a full due, which shortens the list."""


class Fulls:
    """
    The fulls of a publication, except for its first; one each `every_s`.

    Attributes:
        making: The full that is being made, if any.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._is_wanted = False
        self._begun_at_s = 0.0
        self.making: asyncio.Task[PublishedFile] | None = None

    def begin(self, latest: Latest, *, is_wanted: bool = False) -> None:
        """Count from the full of a `LATEST`; `is_wanted`: another is due at once."""
        self._begun_at_s = latest.full.number / NUMBERS_A_S
        self._is_wanted = is_wanted

    def want(self) -> None:
        """Make a full due."""
        self._is_wanted = True

    def is_due(self, latest: Latest, at_s: float) -> bool:
        """Tell whether to start one now."""
        return self.making is None and (
            self._is_wanted
            or at_s - self._begun_at_s >= self._every_s
            or len(latest.increments) >= _MAX_INCREMENTS
        )

    def start(self, make: Coroutine[Any, Any, PublishedFile], at_s: float) -> None:
        """Make a full in the background."""
        self._is_wanted, self._begun_at_s = False, at_s
        self.making = asyncio.create_task(make)

    def take(self, latest: Latest) -> Latest | None:
        """Return a `LATEST` with a finished full; `None`: none, or failed."""
        if self.making is None or not self.making.done():
            return None
        done, self.making = self.making, None
        if (error := done.exception()) is not None:
            _log.warning("the full could not be made: %s", type(error).__name__)
            self._is_wanted = True
            return None
        full = done.result()
        since = full.number - int(KEPT_S * NUMBERS_A_S)
        kept = tuple(each for each in latest.increments if each.number > since)
        return replace(latest, full=full, increments=kept)

    async def stop(self) -> None:
        """Give up the full that is being made."""
        if self.making is not None:
            self.making.cancel()
            await asyncio.wait((self.making,))
            self.making = None
