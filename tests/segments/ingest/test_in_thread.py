"""Work in a thread that outlives nobody who waits for it, and nothing that it writes to."""

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
