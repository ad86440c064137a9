"""
The event loop of a listening process, and its log lines for errors.

The loop is uvloop's, which turns clients away without a free file descriptor, and serves the
others. asyncio's own tries to accept its whole backlog, logs each failure, and repeats each a
second later (measured: 16,000 tracebacks in five seconds, and a whole core).

    all descriptors are in use    a line at the beginning, and one at the end
    an uncaught exception         a line with its type and place, never its message
    a broken connection           nothing
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import uvloop

from segments.runtime.bug_place import bug_place
from segments.runtime.descriptors import tell_of_descriptors

_log = logging.getLogger(__name__)

T = TypeVar("T")


def run_listening(command: Coroutine[Any, Any, T]) -> T:
    """Run a listening process to its end."""
    return uvloop.run(_told_of(command))


async def _told_of(command: Coroutine[Any, Any, T]) -> T:
    asyncio.get_running_loop().set_exception_handler(_in_one_line)
    watching = asyncio.create_task(tell_of_descriptors(_log))
    try:
        return await command
    finally:
        watching.cancel()


def _in_one_line(_: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, OSError):
        return
    what = "?" if error is None else bug_place(error)
    _log.error("uncaught: %s", what)
