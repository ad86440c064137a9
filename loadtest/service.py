"""
A service of the load test's own: `rtb-segments up` as an operator runs it, seeded by `seed`.

Whatever it does is asked of it from outside: its health, its metrics, its signals,
and the kernel about its processes.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import aiohttp

from loadtest.population import Population
from loadtest.ports import free_ports
from loadtest.seed import seed
from loadtest.servers import HOST
from segments.settings import Settings
from segments.store.reader import read_version
from segments.store.servers.connection import connect

_SETTLED_WITHIN_S = 90.0
_STOP_WITHIN_S = 60
_POLL_S = 0.05


class NotSettled(Exception):
    """The service did not come to where it should be; the message says which."""


class Service:
    """
    The running service.

    Args:
        directory: For its data; a short path.
        ids: Persons that the store is laid out for.
        workers: Of the bid listener.
        variables: Settings of the bid listener besides.
    """

    def __init__(
        self, directory: Path, ids: int, workers: int, variables: Mapping[str, str] | None = None
    ) -> None:
        self.workers = workers
        self.settings = Settings(
            data_dir=directory, redis_url=None, ledger_url=None, blob_url=None, expected_ids=ids
        )
        self.port, self._admin_port = free_ports(2)
        self._log = (directory / "up.log").open("wb")
        env = {name: value for name, value in os.environ.items() if "RTB_" not in name}
        env |= {
            "SEGMENTS_DATA_DIR": str(directory),
            "SEGMENTS_REDIS_URL": "",
            "SEGMENTS_EXPECTED_IDS": str(ids),
            "SEGMENTS_API_HOST": HOST,
            "SEGMENTS_API_PORT": "0",
            "SEGMENTS_SFTP_HOST": HOST,
            "SEGMENTS_SFTP_PORT": "0",
            "RTB_HOST": HOST,
            "RTB_PORT": str(self.port),
            "RTB_ADMIN_PORT": str(self._admin_port),
            "RTB_STOP_ACCEPTING_AFTER_S": "0",
            "RTB_WORKERS": str(workers),
            **(variables or {}),
        }
        self._up = subprocess.Popen(
            [sys.executable, "-m", "segments", "up"], env=env, stdout=self._log, stderr=self._log
        )

    async def seed(self, population: Population, say: Callable[[str], None]) -> None:
        """
        Wait until it is ready, seed it, and wait until every worker has the catalog.

        Raises:
            NotSettled: It does not come so far.
            loadtest.seed.SeedFailed: See there.
        """
        await self.until("the service is ready", self.is_ready)
        await seed(population, self.settings, say)
        async with connect(self.settings.store_url) as redis:
            version = await read_version(redis)

        async def is_read() -> bool:
            return (await self.metrics())["rtb_catalog_version"] == version

        await self.until("every worker has the catalog", is_read)

    def stop(self) -> int:
        """End it, and return its exit status."""
        self._up.terminate()
        try:
            return self._up.wait(_STOP_WITHIN_S)
        finally:
            self._up.kill()
            self._log.close()

    def hang_up(self, signal_number: int) -> None:
        """Send a signal to the service as a whole."""
        self._up.send_signal(signal_number)

    def worker_pids(self) -> set[int]:
        """Return the processes of the bid listener, without their supervisor."""
        listeners = [pid for pid in _children(self._up.pid) if b"rtb" in _arguments(pid)]
        return {pid for listener in listeners for pid in workers_of(listener)}

    async def is_ready(self) -> bool:
        """Whether it is up, and every worker says that it could enrich."""
        try:
            return not await self.unready()
        except aiohttp.ClientConnectionError:
            return False

    async def unready(self) -> int:
        """Return how many workers say that they could not enrich."""
        _, text = await self._get("/health/ready")
        return len(set(re.findall(r"worker \d+(?=:)", json.loads(text)["reason"])))

    async def metrics(self) -> dict[str, float]:
        """Return its counters and gauges, summed over what they are labelled with."""
        _, text = await self._get("/metrics")
        sums: dict[str, float] = {}
        for name, value in re.findall(r"^(\w+)(?:\{[^}]*\})? (\S+)$", text, re.MULTILINE):
            sums[name] = sums.get(name, 0.0) + float(value)
        return sums

    async def until(self, what: str, holds: Callable[[], Awaitable[bool] | bool]) -> None:
        """
        Wait until something holds.

        Raises:
            NotSettled: It did not in time, or the service has ended.
        """
        give_up_at_s = time.monotonic() + _SETTLED_WITHIN_S
        while time.monotonic() < give_up_at_s:
            if self._up.poll() is not None:
                raise NotSettled(f"the service ended with status {self._up.returncode}")
            held = holds()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(_POLL_S)
        raise NotSettled(f"{what}: not after {_SETTLED_WITHIN_S:.0f} s")

    async def _get(self, path: str) -> tuple[int, str]:
        url = f"http://{HOST}:{self._admin_port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status, await answer.text()


def workers_of(supervisor_pid: int) -> set[int]:
    """Return the processes of a bid listener, given its supervisor's."""
    return {pid for pid in _children(supervisor_pid) if b"rtb.server.worker" in _arguments(pid)}


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(one) for task in tasks for one in (task / "children").read_text().split()]
    except OSError:  # ended meanwhile
        return []


def _arguments(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
