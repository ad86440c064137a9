"""
The service of a soak: `rtb-segments up` as an operator runs it, with two workers.

Deadlines are longer than production's, for the machine is shared with the drivers
and a soak asks what is answered, not how fast; clients that fall silent are given
up sooner, for the run shall see it happen.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from loadtest.servers import HOST, free_ports
from segments.settings import Settings

SILENCE_S = 2

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
    """

    def __init__(self, directory: Path, ids: int, workers: int) -> None:
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
            "RTB_WORKERS": str(workers),
            "RTB_DEADLINE_CAP_MS": "100",
            "RTB_TMAX_SHARE": "0.5",
            "RTB_BODY_TIMEOUT_S": str(SILENCE_S),
            "RTB_HEADER_TIMEOUT_S": str(SILENCE_S),
        }
        self._up = subprocess.Popen(
            [sys.executable, "-m", "segments", "up"], env=env, stdout=self._log, stderr=self._log
        )

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
        return {
            pid
            for listener in listeners
            for pid in _children(listener)
            if b"rtb.server.worker" in _arguments(pid)
        }

    async def is_ready(self) -> bool:
        """Whether it is up, and every worker says that it could enrich."""
        try:
            return not await self.unready()
        except aiohttp.ClientConnectionError:
            return False

    async def unready(self) -> int:
        """Return how many workers say that they could not enrich."""
        _, text = await self._get("/health/ready")
        return len({reason.partition(":")[0] for reason in json.loads(text)["reasons"]})

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
