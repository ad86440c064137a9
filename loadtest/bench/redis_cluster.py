"""
A temporary Redis Cluster on this machine: three masters, and a replica of each.

The servers are the embedded store's, with its settings, joined by `redis-cli --cluster create`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from loadtest.ports import free_ports
from loadtest.servers import HOST
from segments.runtime import child_process
from segments.store.embedded import SERVER_SETTINGS, server_binary

_MASTERS = 3
_NODES = 2 * _MASTERS
_WITHIN_S = 60.0
_STOP_WITHIN_S = 30.0
_POLL_S = 0.1


class NotMade(Exception):
    """The servers form no cluster; the message names the failed step."""


class Made(NamedTuple):
    """A running cluster."""

    url: str
    pids: tuple[int, ...]  # of all nodes
    masters: tuple[str, ...]  # their URLs


@asynccontextmanager
async def cluster(directory: Path, redis_cli: str) -> AsyncIterator[Made]:
    """
    Run an empty cluster in a directory, which is left there.

    Raises:
        NotMade: The cluster did not form.
    """
    ports = free_ports(2 * _NODES)
    buses, ports = ports[_NODES:], ports[:_NODES]
    async with AsyncExitStack() as stack:
        pids = []
        for port, bus in zip(ports, buses, strict=True):
            process = await child_process.start(_argv(directory / str(port), port, bus))
            stack.push_async_callback(child_process.stop, process, within_s=_STOP_WITHIN_S)
            pids.append(process.pid)
        await _until("start", ports, "PING", bool)
        process = await asyncio.create_subprocess_exec(
            redis_cli, "--cluster", "create",
            *(f"{HOST}:{port}@{bus}" for port, bus in zip(ports, buses, strict=True)),
            "--cluster-replicas", "1", "--cluster-yes",
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        if await process.wait():
            raise NotMade(f"redis-cli --cluster create ended with status {process.returncode}")
        # The first three are the masters.
        masters, replicas = ports[:_MASTERS], ports[_MASTERS:]
        await _until("know each other", ports, "CLUSTER INFO", _is_whole)
        await _until("follow", replicas, "INFO", _follows)
        yield Made(
            f"redis+cluster://{','.join(f'{HOST}:{port}' for port in masters)}",
            tuple(pids),
            tuple(f"redis://{HOST}:{port}" for port in masters),
        )


def _argv(directory: Path, port: int, bus: int) -> list[str]:
    directory.mkdir(parents=True)
    options = {
        "port": port,
        "bind": HOST,
        "dir": directory,
        "logfile": directory / "log",
        "cluster-enabled": "yes",
        "cluster-port": bus,
        **SERVER_SETTINGS,
    }
    return [
        str(server_binary()),
        *(word for n, v in options.items() for word in (f"--{n}", str(v))),
    ]


async def _until(
    they: str, ports: Sequence[int], command: str, holds: Callable[[Any], bool]
) -> None:
    try:
        async with asyncio.timeout(_WITHIN_S):
            for port in ports:
                async with Redis(host=HOST, port=port, socket_timeout=_WITHIN_S) as node:
                    while not await _says(node, command, holds):  # noqa: ASYNC110 - no event tells
                        await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise NotMade(f"the nodes of the cluster do not {they}") from None


async def _says(node: Redis, command: str, holds: Callable[[Any], bool]) -> bool:
    try:
        return holds(await node.execute_command(command))  # type: ignore[no-untyped-call] # redis-py
    except RedisError:
        return False


def _is_whole(info: Mapping[str, str]) -> bool:
    return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(_NODES)


def _follows(info: Mapping[str, str]) -> bool:
    return info.get("master_link_status") == "up"
