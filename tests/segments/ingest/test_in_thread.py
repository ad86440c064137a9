"""Work in a thread ends before the task that waits for it, and before all that it writes to."""

import asyncio
import threading

import pytest

from segments.ingest.in_thread import Abandoned, awaited


class Blocks:
    """Work that goes on until nobody waits for it."""

    def __init__(self) -> None:
        self.is_abandoned = False
        self.is_begun = threading.Event()
        self.has_ended = False

    def run(self) -> None:
        self.is_begun.set()
        try:
            while not self.is_abandoned:
                threading.Event().wait(0.001)
            raise Abandoned
        finally:
            self.has_ended = True


async def test_result_is_that_of_the_work() -> None:
    work = Blocks()

    assert await awaited(work, asyncio.to_thread(lambda: 7)) == 7


async def test_error_is_that_of_the_work() -> None:
    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await awaited(Blocks(), asyncio.to_thread(fail))


async def test_work_has_ended_when_whoever_waited_is_cancelled() -> None:
    """
    The spool that it writes to is closed next.
    """
    work = Blocks()
    waiting = asyncio.create_task(awaited(work, asyncio.to_thread(work.run)))
    await asyncio.to_thread(work.is_begun.wait)

    waiting.cancel()
    await asyncio.wait({waiting})

    assert waiting.cancelled()
    assert work.has_ended


async def test_work_has_ended_when_its_job_is_no_longer_ours() -> None:
    work = Blocks()

    async def lost() -> None:
        raise LookupError("the lease")

    with pytest.raises(LookupError, match="the lease"):
        await awaited(work, asyncio.to_thread(work.run), lost)

    assert work.has_ended


async def test_work_that_ends_while_it_is_shown_is_shown_as_it_ended() -> None:
    """
    What is shown is what is saved: of a file that was read meanwhile, counts would be missing.
    """
    may_end, has_ended = asyncio.Event(), asyncio.Event()
    counted = 0
    shown: list[int] = []

    async def count() -> None:
        nonlocal counted
        await may_end.wait()
        counted = 1
        has_ended.set()

    async def show() -> None:
        shown.append(counted)
        may_end.set()
        await has_ended.wait()

    await awaited(Blocks(), count(), show)

    assert shown == [0, 1]
