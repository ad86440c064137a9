"""
Background work with a client of the store, which may outlast its caller but not the client.

A caller waits only so long; the work goes on, but has to end with the client: otherwise it would
reconnect, and that connection would never be closed.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar, cast

from redis.asyncio import Redis

T = TypeVar("T")


class AtWork:
    """Tracks the background work of a client; base of all our clients."""

    _tasks: set[asyncio.Task[Any]] | None = None

    def begin_work(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start work that ends with the client at the latest."""
        if self._tasks is None:
            self._tasks = set()
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the event loop keeps weak references only
        task.add_done_callback(self._tasks.discard)
        return task

    async def end_work(self) -> None:
        """Cancel all work, and wait for its end."""
        tasks = set(self._tasks or ())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class _Client(Protocol):
    def begin_work(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]: ...


def begin_work(redis: Redis, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """
    Start work with a client of `segments.store.servers.connection.connect`.

    Returns:
        A task that may be left alone; closing the client cancels the task.
    """
    return cast("_Client", redis).begin_work(work)
