"""A process of ours under a test's hands."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from tests.commands import Started, start_command
from tests.sftp import stop

_READY_WITHIN_S = 240
_POLL_S = 0.05


class Process:
    """
    One of our processes, as on a host of its own.

    Args:
        folder: Its host's.
        command: Of `rtb-segments`, and its arguments.
        admin_port: Where its health is.
        environment: Its whole.
    """

    def __init__(
        self, folder: Path, command: Sequence[str], admin_port: int, environment: dict[str, str]
    ) -> None:
        folder.mkdir()
        self.log = folder / "log"
        self._folder = folder
        self._command = command
        self._environment = environment | {"SEGMENTS_DATA_DIR": str(folder / "data")}
        self._health = f"http://127.0.0.1:{admin_port}/health/ready"
        self._process: Started | None = None

    async def start(self) -> None:
        """Start it, and wait until it is ready."""
        with self.log.open("ab") as log:
            self._process = await start_command(
                *self._command, env=self._environment, cwd=self._folder, output=log
            )
        await self.until(200)

    async def stop(self) -> None:
        """End it as an operator does; that it ends well is part of every test."""
        if self._process is not None:
            process, self._process = self._process, None
            assert await stop(process) == 0, self.log.read_text()

    async def restart(self) -> None:
        """Replace it, as an upgrade does."""
        await self.stop()
        await self.start()

    async def until(self, status: int, query: str = "") -> None:
        """Wait until its readiness is answered so; with `?strict` also if it is degraded."""
        async with asyncio.timeout(_READY_WITHIN_S):
            while await self._ready(query) != status:
                assert self._process is None or self._process.returncode is None, (
                    self.log.read_text()
                )
                await asyncio.sleep(_POLL_S)

    async def _ready(self, query: str) -> int | None:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(self._health + query) as answer,
            ):
                return answer.status
        except aiohttp.ClientConnectionError:
            return None
