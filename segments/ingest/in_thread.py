"""A job's blocking work in a thread, which stops at its next block once abandoned."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

T = TypeVar("T")

_SHOW_EVERY_S = 0.25


class Abandoned(Exception):
    """Nothing waits for the work any more."""


class Abandonable(Protocol):
    """Work that checks regularly whether it is abandoned."""

    is_abandoned: bool


async def nobody_asks() -> None:
    """Do nothing, without a lease to renew."""


async def awaited(
    work: Abandonable,
    running: Awaitable[T],
    still_here: Callable[[], Awaitable[None]] = nobody_asks,
) -> T:
    """
    Wait for work in a thread, which has ended on return or raise: its files can be closed.

    The work becomes abandoned when `still_here`, called four times a second and after the work,
    raises, or this task is cancelled.

    Raises:
        Exception: Of the work or of `still_here`.
    """
    task = asyncio.ensure_future(running)
    try:
        is_done = False
        while not is_done:
            await asyncio.wait({task}, timeout=_SHOW_EVERY_S)
            # Before `still_here`: work that ends during that call is shown once more.
            is_done = task.done()
            await still_here()
    finally:
        work.is_abandoned = True
        await asyncio.wait({task})
        task.exception()  # retrieved, even if another exception is raised
    return task.result()
