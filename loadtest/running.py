"""A process of ours with a bid listener, observed from outside: health, metrics and its log."""

import asyncio
import json
import re
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import aiohttp

from loadtest.servers import HOST

_SETTLED_WITHIN_S = 90.0
_STOP_WITHIN_S = 60
_POLL_S = 0.05
_TRACEBACK_LINES = 30


class NotSettled(Exception):
    """The process did not reach the state that the message names."""


class Running:
    """
    The running process.

    Args:
        argv: The command.
        env: Its whole environment.
        log_file: Takes its output.
        admin_port: Of the bid listener.
    """

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], log_file: Path, admin_port: int
    ) -> None:
        self._admin_port = admin_port
        self._log_file = log_file
        self._log = log_file.open("wb")
        self._process = subprocess.Popen(argv, env=env, stdout=self._log, stderr=self._log)

    def stop(self) -> int:
        """End the process, and return its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(_STOP_WITHIN_S)
        finally:
            self._process.kill()
            self._log.close()

    def tracebacks(self) -> Sequence[str]:
        """Return the log's tracebacks."""
        lines = self._log_file.read_text(errors="replace").splitlines()
        return [
            "\n".join(lines[number : number + _TRACEBACK_LINES])
            for number, line in enumerate(lines)
            if "Traceback (most recent call last)" in line
        ]

    async def is_ready(self) -> bool:
        """Whether the listener is up, and every worker could enrich."""
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
            NotSettled: The time was up, or the process has ended.
        """
        give_up_at_s = time.monotonic() + _SETTLED_WITHIN_S
        while time.monotonic() < give_up_at_s:
            if self._process.poll() is not None:
                raise NotSettled(f"the service ended with status {self._process.returncode}")
            held = holds()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(_POLL_S)
        raise NotSettled(f"{what}: not after {_SETTLED_WITHIN_S:.0f} s")

    async def _get(self, path: str) -> tuple[int, str]:
        url = f"http://{HOST}:{self._admin_port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status, await answer.text()
