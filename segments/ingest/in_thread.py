"""Blocking work of a job in a thread, which ends at its next block when nobody waits for it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

T = TypeVar("T")

_SHOW_EVERY_S = 0.25


class Abandoned(Exception):
    """Nobody waits for this work any more."""


class Abandonable(Protocol):
    """Work that looks now and then whether anybody still waits for it."""

    is_abandoned: bool


async def nobody_asks() -> None:
    """Do nothing: there is nobody to whom the work must show that it goes on."""


async def awaited(
    work: Abandonable,
    running: Awaitable[T],
    still_here: Callable[[], Awaitable[None]] = nobody_asks,
) -> T:
    """
    Wait for work that runs in a thread.

    It has ended when this returns or raises: nothing that it writes to is closed under it.

    Args:
        work: Told when nobody waits any more, because `still_here` raised or we were cancelled.
        running: What `asyncio.to_thread`, say, returned for it.
        still_here: Called four times a second, and when the work has ended.

    Raises:
        Exception: What the work raised, or `still_here`.
    """
    task = asyncio.ensure_future(running)
    try:
        is_done = False
        while not is_done:
            await asyncio.wait({task}, timeout=_SHOW_EVERY_S)
            # Asked first: a task that ends while that is shown is shown once more.
            is_done = task.done()
            await still_here()
    finally:
        work.is_abandoned = True
        await asyncio.wait({task})
        task.exception()  # looked at, also where something else is raised
    return task.result()
