"""How long loops wait, and what makes them wait longer."""

import asyncio
import time

from segments.runtime.pauses import Backoff, wait_or_stop


def test_each_pause_is_longer_than_the_last_up_to_the_longest() -> None:
    pauses = Backoff(0.5, 3.0)

    assert [pauses.after(failures) for failures in (1, 2, 3, 4, 5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_pause_grows_by_its_own_factor() -> None:
    pauses = Backoff(5.0, 21_600.0, factor=3.0)

    assert [pauses.after(failures) for failures in (1, 2, 3)] == [5.0, 15.0, 45.0]


def test_a_store_that_is_away_for_days_is_asked_again_after_the_longest_pause() -> None:
    """
    A power of two beyond a float's range raises, and the loop would end with it.
    """
    assert Backoff(0.02, 1.0).after(100_000) == 1.0


async def test_wait_ends_when_told_to_stop() -> None:
    stopping = asyncio.Event()
    waiting = asyncio.create_task(wait_or_stop(stopping, 3600))
    await asyncio.sleep(0)

    stopping.set()

    async with asyncio.timeout(10):
        await waiting


async def test_wait_ends_after_its_time() -> None:
    began_s = time.monotonic()

    await wait_or_stop(asyncio.Event(), 0.02)

    assert time.monotonic() - began_s >= 0.019
