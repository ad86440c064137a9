"""This process's file descriptors, and the clients' share."""

import asyncio
import logging
import os
import resource
from typing import Final

from segments.runtime.causes import DESCRIPTORS

NO_DESCRIPTORS: Final = f"all file descriptors are in use; {DESCRIPTORS.cure}"
_LOOK_EVERY_S = 0.5
_SPARE = 64
"""For store, log, files, and refusals of new clients."""


def descriptors_are_left() -> bool:
    """Tell whether this process can open one more file or connection."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def max_connections() -> int:
    """Return how many connections leave descriptors for the rest."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft - min(_SPARE, soft // 2) if soft != resource.RLIM_INFINITY else 1 << 30


async def tell_of_descriptors(log: logging.Logger) -> None:
    """Log when descriptors run out and when they are back, until cancelled."""
    were_left = True
    while True:
        are_left = descriptors_are_left()
        if were_left and not are_left:
            log.error("connections are turned away: %s", NO_DESCRIPTORS)
        elif are_left and not were_left:
            log.info("there are file descriptors again")
        were_left = are_left
        await asyncio.sleep(_LOOK_EVERY_S)
