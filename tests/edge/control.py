"""Loader, REST doors and SFTP server as their operator starts them: each a process."""

import asyncio
import os
from pathlib import Path

import aiohttp

from loadtest.ports import free_ports
from tests.commands import Started, start_command

_WITHIN_S = 60


class Control:
    """Loader, REST doors and SFTP server, each a process with an admin port."""

    def __init__(
        self, folder: Path, redis_url: str, ledger_url: str | None = None, **environment: str
    ) -> None:
        self.folder = folder
        self.api_port, self.sftp_port, *admin_ports = free_ports(5)
        self.admin_ports = dict(zip(("loader", "api", "sftp"), admin_ports, strict=True))
        self.processes: dict[str, Started] = {}
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SEGMENTS_", "RTB_"))},
            "SEGMENTS_DATA_DIR": str(folder / "data"),
            "SEGMENTS_REDIS_URL": redis_url,
            "SEGMENTS_EXPECTED_IDS": "10000",
            "SEGMENTS_API_HOST": "127.0.0.1",
            "SEGMENTS_API_PORT": str(self.api_port),
            "SEGMENTS_UP_CONSOLE": "no",
            "SEGMENTS_SFTP_HOST": "127.0.0.1",
            "SEGMENTS_SFTP_PORT": str(self.sftp_port),
            "SEGMENTS_LOADER_PORT": str(admin_ports[0]),
            "SEGMENTS_API_ADMIN_PORT": str(admin_ports[1]),
            "SEGMENTS_SFTP_ADMIN_PORT": str(admin_ports[2]),
            **({} if ledger_url is None else {"SEGMENTS_LEDGER_URL": ledger_url}),
            **environment,
        }

    async def start(self) -> None:
        """Start them, the loader first: it makes the ledger."""
        for name in self.admin_ports:
            with (self.folder / f"{name}.log").open("ab") as log:
                self.processes[name] = await start_command(
                    name, env=self._environment, cwd=self.folder, output=log
                )
            await self.until(name, 200)

    async def stop(self) -> None:
        for process in self.processes.values():
            if process.returncode is None:
                process.terminate()
                await process.wait()

    async def until(self, name: str, status: int) -> str:
        """Wait until a process says that it is ready, or is not; return what it said."""
        url = f"http://127.0.0.1:{self.admin_ports[name]}/health/ready"
        async with asyncio.timeout(_WITHIN_S), aiohttp.ClientSession() as session:
            while True:
                assert self.processes[name].returncode is None, self.log(name)
                try:
                    async with session.get(url) as answer:
                        if answer.status == status:
                            return await answer.text()
                except aiohttp.ClientConnectionError:
                    pass
                await asyncio.sleep(0.05)

    async def login(self) -> tuple[int, str]:
        """Ask the REST doors for a login; return the status and when to come again."""
        body = {"username": "nobody", "password": "x"}
        url = f"http://127.0.0.1:{self.api_port}/login"
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
            return answer.status, answer.headers.get("Retry-After", "")

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()
