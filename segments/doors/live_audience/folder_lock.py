"""A file lock: one process watches a drop folder, the others wait until it exits."""

import asyncio
import fcntl
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from segments.runtime.pauses import wait_or_stop

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0


@asynccontextmanager
async def folder_lock(path: Path, stopping: asyncio.Event) -> AsyncIterator[bool]:
    """
    Hold the lock of a folder, once no other process does.

    Yields False if told to stop first. The lock ends with the process, even by a kill.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        was_told = False
        while not stopping.is_set():
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not was_told:
                    _log.info("another process watches the drop folder; waiting for its end")
                was_told = True
                await wait_or_stop(stopping, _LOOK_EVERY_S)
            else:
                break
        yield not stopping.is_set()
    finally:
        os.close(fd)
