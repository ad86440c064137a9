"""The service as a host starts it: by the host's variables, asked on the host's port alone."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiohttp
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from tests.edge.processes import end
from tests.engines import Engine, free_port

_START_WITHIN_S = 60


class Store(NamedTuple):
    """A store, and a client of it."""

    engine: Engine
    client: Redis


class Hosted:
    """A listener that a host has started."""

    def __init__(self, process: Process, port: int, session: aiohttp.ClientSession) -> None:
        self.process = process
        self.session = session
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.log: list[str] = []

    async def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        """Ask a path on the host's port; returns status and body."""
        async with self.session.request(method, self.url + path) as answer:
            return answer.status, await answer.text()

    async def is_answering(self, path: str, status: int = 200) -> bool:
        """Whether a path is answered so by now."""
        try:
            return (await self.get(path))[0] == status
        except aiohttp.ClientConnectionError:
            return False

    async def metrics(self) -> dict[str, Metric]:
        """Scrape."""
        _, text = await self.get("/metrics")
        return {family.name: family for family in text_string_to_metric_families(text)}


@asynccontextmanager
async def hosted(
    port_variable: str, store: str, ready: str | None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Hosted]:
    """
    Run it for as long as the context lasts.

    Args:
        port_variable: By which the host names the port.
        store: The URL of the membership store.
        ready: The path that the host asks until it is 200; `None`: it does not wait.
        environment: What the host sets besides.
    """
    port = int(free_port())
    ours = ("RTB_", "SEGMENTS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rtb",
        env={
            **kept,
            port_variable: str(port),
            "SEGMENTS_REDIS_URL": store,
            "RTB_ADMIN_PORT": "0",  # many tests at a time; no host asks there
            "RTB_OPT_OUTS_MAX_AGE_S": "0",  # no loader runs beside it
            "RTB_DEADLINE_CAP_MS": "5000",  # a loaded test machine is not late, only slow
            "RTB_TMAX_SHARE": "1",
            "RTB_STOP_ACCEPTING_AFTER_S": "0",
            **(environment or {}),
        },
        stdout=PIPE, stderr=STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    async with aiohttp.ClientSession() as session:
        service = Hosted(process, port, session)
        reading = asyncio.create_task(_read(process.stdout, service.log))
        try:
            if ready is not None:
                await _until(service, ready)
            yield service
        finally:
            await end(process, reading)


async def _until(service: Hosted, ready: str) -> None:
    """Wait as a host does: for longer than for any answer, for a whole machine may be starting."""
    async with asyncio.timeout(_START_WITHIN_S):
        while not await service.is_answering(ready):
            assert service.process.returncode is None, "".join(service.log)
            await asyncio.sleep(0.02)


async def _read(stream: asyncio.StreamReader, log: list[str]) -> None:
    async for line in stream:
        log.append(line.decode())  # noqa: PERF401 - it is read while it grows
