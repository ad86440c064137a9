"""A process that ends is started again, each time after a longer pause; others go on meanwhile."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

from segments.runtime.pauses import Backoff


class CannotRun(Exception):
    """A process ended before it was ever well; starting it again would not help."""


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
    Start a process again whenever it ends, until cancelled.

    Args:
        name: Of the process, for the log.
        until_ended: Waits for the end of the process, which was started; returns its exit
            status, negative if a signal ended it.
        start: Starts it again.
        log: Takes a line for each end.
        pauses: Between an end and the next start.
        well_after_s: A process that ran so long was well, and its next pause is the first.
        must_be_well: Whether one that gives up before it was ever well is given up.

    Raises:
        CannotRun: It gave up.
    """
    loop = asyncio.get_running_loop()
    failures = 0
    while True:
        began_at_s = loop.time()
        status = await until_ended()
        if loop.time() - began_at_s >= well_after_s:
            failures, must_be_well = 0, False
        if must_be_well and status >= 0:  # whom a signal ends has not given up
            raise CannotRun(f"{name} ended with status {status} as soon as it was started")
        log.error("%s ended with status %d; starting it again", name, status)
        failures += 1
        await asyncio.sleep(pauses.after(failures))
        await start()
