"""
The load test's own service: `rtb-segments up` as an operator runs it, seeded by `seed`.

It is observed and controlled only from outside: by its health, metrics and signals, and by the
kernel's view of its processes.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import aiohttp

from loadtest.population import Population
from loadtest.ports import free_ports
from loadtest.processes import children_of, workers_of
from loadtest.seed import seed
from loadtest.servers import HOST
from segments.settings import Settings
from segments.store.reader import read_version
from segments.store.servers.connection import connect

_SETTLED_WITHIN_S = 90.0
_STOP_WITHIN_S = 60
_POLL_S = 0.05
_TRACEBACK_LINES = 30
_DESCRIPTORS = 256


class NotSettled(Exception):
    """The service did not reach a state; the message names the state."""


class Service:
    """
    The running service.

    Args:
        directory: For its data; a short path.
        ids: Persons that the store is laid out for.
        workers: Of the bid listener.
        variables: Additional settings of the bid listener.
    """

    def __init__(
        self, directory: Path, ids: int, workers: int, variables: Mapping[str, str] | None = None
    ) -> None:
        self.workers = workers
        self.settings = Settings(
            data_dir=directory, redis_url=None, ledger_url=None, blob_url=None, expected_ids=ids
        )
        self.port, self._admin_port, self.api_port, self.sftp_port = free_ports(4)
        self._log_file = directory / "up.log"
        self._log = self._log_file.open("wb")
        env = {name: value for name, value in os.environ.items() if "RTB_" not in name}
        env |= {
            "SEGMENTS_DATA_DIR": str(directory),
            "SEGMENTS_REDIS_URL": "",
            "SEGMENTS_EXPECTED_IDS": str(ids),
            "SEGMENTS_API_HOST": HOST,
            "SEGMENTS_API_PORT": str(self.api_port),
            "SEGMENTS_UP_CONSOLE": "no",
            "SEGMENTS_SFTP_HOST": HOST,
            "SEGMENTS_SFTP_PORT": str(self.sftp_port),
            "RTB_HOST": HOST,
            "RTB_PORT": str(self.port),
            "RTB_ADMIN_PORT": str(self._admin_port),
            "RTB_STOP_ACCEPTING_AFTER_S": "0",
            "RTB_WORKERS": str(workers),
            **(variables or {}),
        }
        # A limit that can be reached, set in the shell as an operator does.
        limited = ["sh", "-c", f'ulimit -n {_DESCRIPTORS}; exec "$@"', "up"]
        self._up = subprocess.Popen(
            [*limited, sys.executable, "-m", "segments", "up"],
            env=env, stdout=self._log, stderr=self._log,
        )  # fmt: skip

    async def seed(self, population: Population, say: Callable[[str], None]) -> None:
        """
        Wait until the service is ready, seed it, and wait until every worker has the catalog.

        Raises:
            NotSettled: The service was not ready or up to date in time.
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
        """End the service, and return its exit status."""
        self._up.terminate()
        try:
            return self._up.wait(_STOP_WITHIN_S)
        finally:
            self._up.kill()
            self._log.close()

    @property
    def places(self) -> int:
        """The number of connections that exceeds its workers' descriptors."""
        return _DESCRIPTORS * self.workers

    def tracebacks(self) -> Sequence[str]:
        """Return the tracebacks in the log of its processes."""
        lines = self._log_file.read_text(errors="replace").splitlines()
        return [
            "\n".join(lines[number : number + _TRACEBACK_LINES])
            for number, line in enumerate(lines)
            if "Traceback (most recent call last)" in line
        ]

    def hang_up(self, signal_number: int) -> None:
        """Send a signal to the service as a whole."""
        self._up.send_signal(signal_number)

    def worker_pids(self) -> set[int]:
        """Return the worker processes of the bid listener, without their supervisor."""
        listeners = children_of(self._up.pid, running="rtb.__main__")
        return {pid for listener in listeners for pid in workers_of(listener)}

    async def bid_pids(self) -> frozenset[int]:
        """Return the processes that bids need: the listener's, and the store."""
        async with connect(self.settings.store_url) as redis:
            pids = {int((await redis.info("server"))["process_id"])}
        left = children_of(self._up.pid, running="rtb.__main__")
        while left:
            pids.add(pid := left.pop())
            left += children_of(pid)
        return frozenset(pids)

    async def is_ready(self) -> bool:
        """Whether the service is up, and every worker could enrich."""
        try:
            return not await self.unready()
        except aiohttp.ClientConnectionError:
            return False

    async def unready(self) -> int:
        """Return the number of workers that report they could not enrich."""
        _, text = await self._get("/health/ready")
        return len(set(re.findall(r"worker \d+(?=:)", json.loads(text)["reason"])))

    async def metrics(self) -> dict[str, float]:
        """Return its counters and gauges, summed over their labels."""
        _, text = await self._get("/metrics")
        sums: dict[str, float] = {}
        for name, value in re.findall(r"^(\w+)(?:\{[^}]*\})? (\S+)$", text, re.MULTILINE):
            sums[name] = sums.get(name, 0.0) + float(value)
        return sums

    async def until(self, what: str, holds: Callable[[], Awaitable[bool] | bool]) -> None:
        """
        Wait until a condition holds.

        Raises:
            NotSettled: The time was up, or the service has ended.
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
