"""
Notices that the bucket of delivered files does not answer.

Readiness is asked every few seconds and must answer at once, and a bucket that is away fails only
after minutes of retries. So a look runs by itself, and readiness has the result of the last.
"""

import asyncio
import time
from typing import Final

from obstore.exceptions import BaseError

from segments.files.blobs import Blobs
from segments.projection.causes import away_by
from segments.runtime.causes import OTHER, UNANSWERED

EVERY_S: Final = 30.0
"""Between looks, each of which is a paid request."""

WITHIN_S: Final = 10.0
"""For a look; obstore itself goes on trying for minutes."""

_PART: Final = "the storage of delivered files"


class BucketLook:
    """
    The state of a bucket, as of the last look; a directory has none.

    Args:
        blobs: In the bucket.
        every_s: The pause between looks.
        within_s: The most that a look takes.
    """

    def __init__(self, blobs: Blobs, every_s: float = EVERY_S, within_s: float = WITHIN_S) -> None:
        self._blobs = blobs
        self._every_s = every_s
        self._within_s = within_s
        self._due_s = 0.0
        self._fault = ""
        self._looking: asyncio.Task[None] | None = None

    def fault(self) -> str:
        """Return the last look's fault with its cure, or nothing; start the next look if due."""
        is_looking = self._looking is not None and not self._looking.done()
        if self._blobs.is_bucket and not is_looking and time.monotonic() >= self._due_s:
            self._looking = asyncio.create_task(self._look())
        return self._fault

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(self._within_s):
                await self._blobs.check_answers()
        except TimeoutError:
            self._fault = UNANSWERED.of(_PART)
        except (BaseError, OSError) as error:
            away = away_by(error)
            self._fault = (OTHER if away is None else away.cause).of(_PART)
        else:
            self._fault = ""
        self._due_s = time.monotonic() + self._every_s
