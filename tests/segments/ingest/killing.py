"""The end of a process, between any two of the steps that outlive it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.blobs import Blobs


class Killed(BaseException):
    """Nobody catches it, as nobody catches SIGKILL."""


class Fuse:
    """Burns down with each step; at the end of it the process is dead, until it is lit again."""

    def __init__(self) -> None:
        self.steps_left = -1  # for ever

    def step(self) -> None:
        """
        Take a step.

        Raises:
            Killed: It is not taken.
        """
        if self.steps_left == 0:
            raise Killed
        self.steps_left -= 1

    @contextmanager
    def of_ledger(self, ledger: AsyncEngine) -> Iterator[None]:
        """Have each commit of a ledger be a step."""

        def step(_: Any) -> None:
            self.step()

        event.listen(ledger.sync_engine, "commit", step)
        yield
        self.steps_left = -1
        event.remove(ledger.sync_engine, "commit", step)


class MortalBlobs(Blobs):
    """Each blob that is written or deleted is a step."""

    fuse: Fuse

    async def put(self, name: str, chunks: Any) -> Any:
        self.fuse.step()
        return await super().put(name, chunks)

    async def delete(self, name: str) -> None:
        self.fuse.step()
        await super().delete(name)
