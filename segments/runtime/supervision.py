import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

from segments.runtime.pauses import Backoff


class CannotRun(Exception):
    """A process ended before it was ever well; a restart would not help."""


async def supervise(
    name: str,
    until_ended: Callable[[], Awaitable[int]],
    start: Callable[[], Awaitable[None]],
    log: logging.Logger,
    *,
    pauses: Backoff,
    well_after_s: float,
    must_be_well: bool = False,
) -> NoReturn:
    """
    Restart a process whenever it ends, until cancelled.

    Args:
        name: In the log.
        until_ended: Waits for the process; returns its exit status, negative after a signal.
        start: Starts the process again.
        log: Takes a line for each end.
        pauses: Between an end and the next start.
        well_after_s: A process is well then; its next pause is the shortest.
        must_be_well: Give up a process that exits before it was ever well.

    Raises:
        CannotRun: The process exited before it was ever well.
    """
    loop = asyncio.get_running_loop()
    failures = 0
    while True:
        began_at_s = loop.time()
        status = await until_ended()
        if loop.time() - began_at_s >= well_after_s:
            failures, must_be_well = 0, False
        if must_be_well and status >= 0:  # a signal is no exit of its own accord
            raise CannotRun(f"{name} ended with status {status} as soon as it was started")
        log.error("%s ended with status %d; starting it again", name, status)
        failures += 1
        await asyncio.sleep(pauses.after(failures))
        await start()
