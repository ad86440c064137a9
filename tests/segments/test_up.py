"""What becomes of a part of the service that ends as soon as it was started."""

import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from segments.processes.part import Program
from segments.processes.up import _keep
from segments.runtime import child_process
from segments.runtime.supervision import CannotRun

_SAYS_WHO_IT_IS = "import os, sys; print(os.getpid(), file=open(sys.argv[1], 'a'))"


def program(starts: Path, what_then: str) -> Program:
    argv = [sys.executable, "-c", f"{_SAYS_WHO_IT_IS}; {what_then}", str(starts)]
    return Program("part", partial(child_process.start, argv))


async def pids(starts: Path, count: int) -> list[int]:
    """Wait until it was started so often."""
    async with asyncio.timeout(30):
        while not starts.exists() or len(starts.read_text().splitlines()) < count:  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.01)
    return [int(line) for line in starts.read_text().splitlines()]


async def test_one_that_gives_up_is_not_started_again(tmp_path: Path) -> None:
    part = program(tmp_path / "starts", "sys.exit(3)")
    await part.start()

    with pytest.raises(CannotRun, match="part ended with status 3 as soon as it was started"):
        await asyncio.wait_for(_keep(part), 30)

    assert len(await pids(tmp_path / "starts", 1)) == 1


async def test_one_that_is_killed_is_started_again(tmp_path: Path) -> None:
    part = program(tmp_path / "starts", "__import__('time').sleep(600)")
    await part.start()
    keeping = asyncio.create_task(_keep(part))

    (first,) = await pids(tmp_path / "starts", 1)
    os.kill(first, signal.SIGKILL)
    second = (await pids(tmp_path / "starts", 2))[-1]

    assert not keeping.done()
    assert second != first
    keeping.cancel()
    await asyncio.wait([keeping])
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)
