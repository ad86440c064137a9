"""
Asks several nodes or Sentinels that may know different things.

All are asked at once, without waiting for a slow minority: an opt-out, which first asks for the
master, must not wait a second for a lost node.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

WITHIN_S = 1.0
"""A node that takes longer is busy, or gone."""

_MOST_S = 0.1

T = TypeVar("T")


async def ask_majority(asked: Sequence[Coroutine[Any, Any, T | None]]) -> list[T]:
    """
    Return the answers of a tenth of a second; of `WITHIN_S` without a majority.

    Instead of an answer `None` is returned, and nothing raised.
    """
    tasks = [asyncio.create_task(each) for each in asked]
    try:
        done, late = await asyncio.wait(tasks, timeout=_MOST_S)
        if late and sum(task.result() is not None for task in done) * 2 <= len(tasks):
            done, _ = await asyncio.wait(tasks, timeout=WITHIN_S - _MOST_S)
    finally:
        for task in tasks:
            task.cancel()
    return [said for task in done if (said := task.result()) is not None]
