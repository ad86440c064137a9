"""
Several who each say what they know, and need not know the same: nodes, or Sentinels.

All are asked at once. Whoever hangs is waited for only if most do: an opt-out, which
asks first who the master is, must not wait a second for as long as some node is gone.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

WITHIN_S = 1.0
"""Who does not answer within this has something else to do, or is gone."""

_MOST_S = 0.1

T = TypeVar("T")


async def ask_majority(asked: Sequence[Coroutine[Any, Any, T | None]]) -> list[T]:
    """
    Return what was said within a tenth of a second; if that is not most of it, within `WITHIN_S`.

    Args:
        asked: Each raises nothing, and returns `None` if nothing was said.
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
