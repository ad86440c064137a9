"""
Two bid listeners behind nginx, each replaced in turn while bids come: nobody is turned away.

The balancer is told by a script that asks `/health/ready` every two seconds and reloads nginx
without the server that is not ready, as teams do who have no service mesh. It does not try the
next server where one refuses: a refused connection would be seen.
"""

import asyncio
import contextlib
import signal
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from loadtest.ports import free_ports
from segments.store.servers.connection import connect
from tests.edge.client import connected
from tests.edge.processes import start
from tests.edge.small_store import bid_request, eventually, furnish
from tests.engines import Engine

_LOOK_EVERY_S = 2.0
_SENDERS = 6
_WITHIN_S = 60

_CONFIG = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream bids {{ {servers} keepalive 16; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://bids; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_next_upstream off;
    }}
  }}
}}
"""


class Balancer:
    """nginx over the servers that say that they are ready."""

    def __init__(self, folder: Path, listeners: dict[int, int]) -> None:
        self.folder = folder
        self.listeners = listeners
        self.serving: list[int] = []
        (self.port,) = free_ports(1)
        self._process: asyncio.subprocess.Process | None = None

    async def watch(self) -> None:
        """Ask who is ready every two seconds, for ever."""
        async with aiohttp.ClientSession() as session:
            while True:
                ready = [
                    port
                    for port, admin_port in self.listeners.items()
                    if await _is_ready(session, admin_port)
                ]
                if ready and ready != self.serving:
                    await self._balance(ready)
                await asyncio.sleep(_LOOK_EVERY_S)

    async def _balance(self, ports: list[int]) -> None:
        servers = " ".join(f"server 127.0.0.1:{port} max_fails=0;" for port in ports)
        config = _CONFIG.format(folder=self.folder, port=self.port, servers=servers)
        (self.folder / "nginx.conf").write_text(config)
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                "/usr/sbin/nginx", "-c", self.folder / "nginx.conf", "-p", self.folder
            )
            await eventually(self._listens)
        else:
            self._process.send_signal(signal.SIGHUP)
        self.serving = ports

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except ConnectionError:
            return False
        writer.close()
        return True

    async def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            await self._process.wait()


class Pod:
    """A bid listener on ports of its own, which can be started anew."""

    def __init__(self, valkey: Engine) -> None:
        self.port, self.admin_port = free_ports(2)
        self._settings: dict[str, Any] = {
            "redis_url": valkey.url,
            "host": "127.0.0.1",
            "workers": 1,
        }
        self._process: Process | None = None
        self._log: asyncio.Task[bytes] | None = None

    async def start(self) -> None:
        patient: dict[str, Any] = {
            "deadline_cap_ms": 5_000,
            "tmax_share": 1,
            "opt_outs_max_age_s": 0,
        }
        ports: dict[str, Any] = {"port": self.port, "admin_port": self.admin_port}
        self._process = await start(**self._settings, **patient, **ports)
        assert self._process.stdout is not None
        self._log = asyncio.create_task(self._process.stdout.read())

    async def stop(self) -> None:
        """End it as Kubernetes does, and see that it ends well."""
        assert self._process is not None
        assert self._log is not None
        self._process.terminate()
        assert await self._process.wait() == 0, await self._log
        assert b"Traceback" not in await self._log


async def test_rolling_restart_behind_nginx_turns_nobody_away(
    valkey: Engine, tmp_path: Path
) -> None:
    async with connect(valkey.url) as redis:
        await furnish(redis)
    pods = [Pod(valkey), Pod(valkey)]
    balancer = Balancer(tmp_path, {pod.port: pod.admin_port for pod in pods})
    seen: Counter[tuple[int, str]] = Counter()

    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(balancer.stop)
        for pod in pods:
            await pod.start()
            stack.push_async_callback(pod.stop)
        watching = asyncio.create_task(balancer.watch())
        await _until(lambda: len(balancer.serving) == 2)
        sending = [asyncio.create_task(_send(balancer, seen)) for _ in range(_SENDERS)]
        for pod in pods:
            await pod.stop()
            assert pod.port not in balancer.serving
            await pod.start()
            await _until(lambda: len(balancer.serving) == 2)
        for task in (watching, *sending):
            task.cancel()
        done, _ = await asyncio.wait([watching, *sending])

    assert [task.exception() for task in done if not task.cancelled()] == []
    assert seen.keys() == {(200, "enriched")}
    assert seen.total() > 300


async def _is_ready(session: aiohttp.ClientSession, admin_port: int) -> bool:
    try:
        async with session.get(f"http://127.0.0.1:{admin_port}/health/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False


async def _send(balancer: Balancer, seen: Counter[tuple[int, str]]) -> None:
    """Bid after bid, each over a new connection: nginx ends idle ones when it is reloaded."""
    while True:
        async with connected(balancer.port) as client:
            answer = await client.post(bid_request())
        seen[answer.status, answer.headers.get("x-enrich-outcome", "")] += 1
        await asyncio.sleep(0.01)


async def _until(claim: Callable[[], bool]) -> None:
    async with asyncio.timeout(_WITHIN_S):
        while not claim():  # noqa: ASYNC110 - of a list, which no event tells of
            await asyncio.sleep(0.02)
