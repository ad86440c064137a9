"""A limit of time that counts only while the event loop runs."""

import asyncio
from types import TracebackType
from typing import Final

_LATE_SHARE: Final = 0.1
"""Of the limit: a timer later than that shows a loop that stood still."""


class AwakeTimeout:
    """
    `asyncio.timeout`, without the time in which the process had no processor.

    After such a time the loop runs its timers beside what it reads, and `asyncio.timeout` gives up
    a reply that has come. Here, a late timer is set again once, for as long as it was late, so that
    the loop reads first: the limit is at most doubled, however slow the loop.

    Args:
        limit_s: In seconds.

    Raises:
        TimeoutError: The limit has passed.
    """

    __slots__ = ("_due_s", "_limit", "_limit_s", "_loop", "_timer", "_was_late")

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._limit = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self._was_late = False
        self._set(limit_s)

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        await self._limit.__aexit__(kind, error, trace)

    def _set(self, after_s: float) -> None:
        self._due_s = self._loop.time() + after_s
        self._timer = self._loop.call_at(self._due_s, self._expire)

    def _expire(self) -> None:
        late_s = self._loop.time() - self._due_s
        if late_s > self._limit_s * _LATE_SHARE and not self._was_late:
            self._was_late = True
            self._set(min(late_s, self._limit_s))
        else:
            self._limit.reschedule(self._loop.time())
