"""
Cancellation of calls to the store, which redis-py may lose.

In Python 3.11 `asyncio.wait_for`, by which redis-py writes, returns as usual if its task is
cancelled in the turn that ends the write (python/cpython#86296; 3.12 has it right). The caller
would go on: a loop for ever, a block beyond its `asyncio.timeout`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.asyncio.retry import Retry

T = TypeVar("T")


async def unless_cancelled(call: Awaitable[T]) -> T:
    """
    Await a call.

    Raises:
        asyncio.CancelledError: Our task was cancelled meanwhile, and the call ended as usual.
    """
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    result = await call
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
    return result


class CancellableRetry(Retry):
    """redis-py's retries, around every call to one server; none loses a cancellation."""

    async def call_with_retry(
        self, do: Callable[[], Awaitable[T]], *args: Any, **options: Any
    ) -> T:
        """Call, again after errors as often as set."""
        return await unless_cancelled(super().call_with_retry(do, *args, **options))
