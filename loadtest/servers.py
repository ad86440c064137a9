"""
The servers that the bench compares: started, pinned and measured alike.

A server's cost is its answering process's CPU time, user and system, in all threads, read by
`clock_getcpuclockid(3)` at the kernel's resolution; /proc/PID/stat has steps of 10 ms.
"""

import asyncio
import os
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis

from segments.runtime import child_process

HOST = "127.0.0.1"

_READY_WITHIN_S = 30
_STOP_WITHIN_S = 15
_POLL_S = 0.05
_CPU_OF_PROCESS = 2
"""Added by `clock_getcpuclockid` to the inverted process id (CPUCLOCK_SCHED)."""


class NotReady(Exception):
    """A server ended, or did not listen in time."""


@dataclass(frozen=True)
class Server:
    """A running server, and its answering process."""

    name: str
    port: int
    pid: int

    def cpu_s(self) -> float:
        """Return the CPU seconds of the answering process."""
        return cpu_s(self.pid)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process, user and system, in all threads."""
    return time.clock_gettime(~pid << 3 | _CPU_OF_PROCESS)


def peak_bytes(pid: int) -> int:
    """Return the peak resident memory of a process."""
    [line] = [
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmHWM:")
    ]
    return int(line.split()[1]) * 1024


async def used_bytes(redis: Redis) -> int:
    """Return the memory of a store, without the buffers of its clients."""
    memory = await redis.info("memory")
    return int(memory["used_memory"]) - int(memory.get("mem_clients_normal", 0))


async def to_cpu(redis: Redis, cpu: int | None) -> None:
    """Move a local store's server to a CPU; `None`: leave it."""
    if cpu is not None:
        os.sched_setaffinity(int((await redis.info("server"))["process_id"]), {cpu})


@contextmanager
def pinned(cpu: int | None) -> Iterator[None]:
    """Pin this thread, and all it starts, to a CPU; `None`: to any."""
    if cpu is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Servers:
    """Starts servers and ends them all; an async context manager."""

    def __init__(self, cpu: int | None) -> None:
        self._cpu = cpu
        self._processes: list[Process] = []

    async def __aenter__(self) -> "Servers":
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            await child_process.stop(process, within_s=_STOP_WITHIN_S)

    async def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        port: int,
        env: Mapping[str, str] | None = None,
        answering_pid: Callable[[int], int | None] = lambda pid: pid,
        program: str = sys.executable,
    ) -> Server:
        """
        Start a server and wait until it listens.

        Args:
            name: In the table.
            argv: Arguments of the program.
            port: To listen on.
            env: Added to our own environment.
            answering_pid: Finds the answering process by the started; `None` until there is one.
            program: By path.

        Raises:
            NotReady: The server ended, or did not listen in time.
        """
        with pinned(self._cpu):
            process = await child_process.start([program, *argv], env={**os.environ, **(env or {})})
        self._processes.append(process)
        for _ in range(int(_READY_WITHIN_S / _POLL_S)):
            if process.returncode is not None:
                raise NotReady(f"{name} ended with status {process.returncode}")
            if await _listens(port):
                pid = answering_pid(process.pid)
                if pid is not None:
                    return Server(name, port, pid)
            await asyncio.sleep(_POLL_S)
        raise NotReady(f"{name} does not listen after {_READY_WITHIN_S} s")


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
