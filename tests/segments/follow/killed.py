"""
A follower in a process of its own that is killed at one of its steps.

A step is anything that outlives it: a file of its volume opened, renamed or deleted, a command to
its store. So every download, check, write to the store and note of its number has a step.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from redis.asyncio.connection import AbstractConnection

from segments.files.published_place import PublishedPlace
from segments.follow.follower import Follower
from segments.runtime import child_process
from segments.store.published.latest import Keys
from segments.store.servers.connection import connect
from tests.engines import start_lasting

_FILE_STEPS = {"open", "os.rename", "os.remove"}


class Plan(NamedTuple):
    """What the follower does, and where it ends."""

    store_url: str
    spool_dir: str
    key: str
    before: str | None
    """The place that it has followed already; `None`: it begins."""
    place: str
    step: int
    """It is killed as it begins this step."""


class Steps:
    """Counts steps, and kills this process at the one that is due."""

    def __init__(self, spool_dir: str, due: int) -> None:
        self._spool_dir = spool_dir
        self._left = due
        sys.addaudithook(self._on_event)
        send = AbstractConnection.send_packed_command

        async def counted(connection: Any, *arguments: Any, **options: Any) -> None:
            self._take()
            await send(connection, *arguments, **options)

        AbstractConnection.send_packed_command = counted  # type: ignore[method-assign, assignment] # no other seam

    def _on_event(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name in _FILE_STEPS and str(arguments[0]).startswith(self._spool_dir):
            self._take()

    def _take(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def follow(plan: Plan) -> None:
    """Follow once, unless killed."""
    asyncio.run(_follow(plan))


async def _follow(plan: Plan) -> None:
    async with connect(plan.store_url) as redis:
        follower = Follower(
            redis,
            PublishedPlace(plan.before or plan.place),
            Keys.of([plan.key]),
            Path(plan.spool_dir),
            max_age_s=900,
            now_s=time.time,
            monotonic_s=time.monotonic,
            settle_s=0,
        )
        if plan.before is not None:
            await follower.look()
            follower._place = PublishedPlace(plan.place)
        Steps(plan.spool_dir, plan.step)
        await follower.look()


class Victims:
    """Starts followers that are killed: copies of a process that has imported all they need."""

    def __init__(self) -> None:
        self._forking = start_lasting(
            [
                *(sys.executable, "-IS", child_process.__file__, str(os.getpid())),
                *(sys.executable, "-m", __name__),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def is_killed(self, plan: Plan) -> bool:
        """Run a follower; return whether it came to the step."""
        asking, answering = self._forking.stdin, self._forking.stdout
        assert asking is not None
        assert answering is not None
        asking.write(msgspec.json.encode(plan) + b"\n")
        asking.flush()
        status = int(answering.readline())
        assert status in (0, -signal.SIGKILL), status
        return status != 0

    def end(self) -> None:
        """End the process that starts them."""
        self._forking.communicate()


def main() -> None:
    """Run a follower for each line of plans, and answer with its exit status."""
    for line in sys.stdin.buffer:
        pid = os.fork()
        if not pid:
            follow(msgspec.json.decode(line, type=Plan))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
