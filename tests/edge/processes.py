"""The bid listener as its operator starts it: `python -m rtb`, with real processes."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from ssl import SSLContext
from typing import Any

import aiohttp

from loadtest.processes import workers_of
from tests.edge.client import WITHIN_S
from tests.edge.small_store import eventually


class Listener:
    """A running `python -m rtb`; what it logs is kept."""

    def __init__(self, process: Process, port: int, admin_port: int, log: list[str]) -> None:
        self.process = process
        self.port = port
        self.admin_port = admin_port
        self.log = log
        self.admin_tls: SSLContext | None = None

    @property
    def grpc_port(self) -> int:
        """The further port, where one was asked for."""
        [port] = re.findall(r"calls of gRPC on port (\d+)", "".join(self.log))
        return int(port)

    async def get(self, path: str) -> tuple[int, str]:
        """Ask the admin endpoint."""
        scheme = "http" if self.admin_tls is None else "https"
        url = f"{scheme}://127.0.0.1:{self.admin_port}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, ssl=self.admin_tls or True) as answer,
        ):
            return answer.status, await answer.text()

    async def is_ready(self) -> bool:
        """Whether it says that it answers, and enriches."""
        return (await self.get("/health/ready?strict"))[0] == 200

    async def metric(self, line: str) -> float:
        """Return the value of one line of the metrics."""
        _, text = await self.get("/metrics")
        found = re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        return sorted(workers_of(self.process.pid))


@asynccontextmanager
async def listening(
    *, admin_tls: SSLContext | None = None, **settings: Any
) -> AsyncIterator[Listener]:
    """Start it on ports of the kernel's choice and wait until it says which."""
    ports = {"host": "127.0.0.1", "port": 0, "admin_port": 0}
    brief = {"stop_accepting_after_s": 0, "drain_s": 5}
    patient = {"deadline_cap_ms": 5_000, "tmax_share": 1}
    process = await start(**{**ports, **brief, **patient, **settings})
    assert process.stdout is not None
    log: list[str] = []
    found: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()

    async def read(stream: asyncio.StreamReader) -> None:
        async for line in stream:
            log.append(line.decode())
            ports = re.search(r"bids on port (\d+), health and metrics on port (\d+)", log[-1])
            if ports and not found.done():
                found.set_result((int(ports[1]), int(ports[2])))

    reading = asyncio.create_task(read(process.stdout))
    try:
        async with asyncio.timeout(WITHIN_S):
            port, admin_port = await found
        listener = Listener(process, port, admin_port, log)
        listener.admin_tls = admin_tls
        await eventually(lambda: _all_run(listener, settings.get("workers", 1)))
        yield listener
    finally:
        await end(process, reading)


async def end(process: Process, reading: asyncio.Task[None]) -> None:
    """Terminate a process, and read the rest of its log."""
    if process.returncode is None:
        process.terminate()
    async with asyncio.timeout(WITHIN_S):
        await process.wait()
        await reading


async def start(*, cwd: Path | None = None, **settings: Any) -> Process:
    """Start it with these settings, the store's URL among them as `redis_url`, in a directory."""
    url = settings.pop("redis_url", None)
    env = {name: value for name, value in os.environ.items() if "RTB_" not in name}
    env["RTB_OPT_OUTS_MAX_AGE_S"] = "0"  # no loader runs beside it
    env |= {f"RTB_{name.upper()}": str(value) for name, value in settings.items()}
    if url:
        env["SEGMENTS_REDIS_URL"] = url
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rtb", env=env, cwd=cwd, stdout=PIPE, stderr=STDOUT
    )


async def _all_run(listener: Listener, workers: int) -> bool:
    assert listener.process.returncode is None, "".join(listener.log)
    reasons = (await listener.get("/health/ready"))[1]
    return "not running" not in reasons and len(listener.workers()) == workers
