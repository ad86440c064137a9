"""
A part of the service: a child process that is restarted whenever it ends.

`up` and `serve --follow` run parts alike, and `serve --follow` must not import the ledger.
"""

import logging
import signal
from collections.abc import Awaitable, Callable
from typing import NoReturn, Protocol

from segments.runtime import child_process
from segments.runtime.pauses import Backoff
from segments.runtime.supervision import supervise

_STOP_WITHIN_S = 30
_PAUSES = Backoff(0.2, 10.0)
_WELL_AFTER_S = 5.0


class Part(Protocol):
    """A part that can be restarted."""

    name: str

    async def start(self) -> None:
        """Start the part; return when ready."""

    async def wait(self) -> int:
        """Wait for the exit status of its process."""

    async def stop(self) -> None:
        """Stop the part gracefully, if running."""


class Program:
    """
    A program of our own, as a part.

    Args:
        name: In the log.
        started: Starts the process.
    """

    def __init__(self, name: str, started: Callable[[], Awaitable[child_process.Process]]) -> None:
        self.name = name
        self._started = started
        self._process: child_process.Process | None = None

    async def start(self) -> None:
        """Start the process, ready or not."""
        self._process = await self._started()

    async def wait(self) -> int:
        """Wait for its exit status; negative after a signal."""
        assert self._process is not None, "started before it is waited for"
        return await self._process.wait()

    def hang_up(self) -> None:
        """Send SIGHUP, if running."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGHUP)

    async def stop(self) -> None:
        """Stop the process, by force after a time limit, if running."""
        if self._process is not None:
            await child_process.stop(self._process, within_s=_STOP_WITHIN_S)


async def restart(part: Part, log: logging.Logger, *, must_be_well: bool = True) -> NoReturn:
    """
    Restart a started part whenever it ends, until cancelled.

    `log` takes a line for each end. `must_be_well`: give up a part that exits before it was ever
    well.

    Raises:
        segments.runtime.supervision.CannotRun: The part exited before it was ever well.
    """
    await supervise(
        part.name, part.wait, part.start, log,
        pauses=_PAUSES, well_after_s=_WELL_AFTER_S, must_be_well=must_be_well,
    )  # fmt: skip
