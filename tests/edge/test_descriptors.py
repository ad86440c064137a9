"""
All file descriptors of a process are in use: it says so in one line, and goes on afterwards.

asyncio's accept loop tells of it without end, each time with a traceback, until the log has the
disk as well: https://github.com/python/cpython/issues/151615,
https://github.com/kyuupichan/electrumx/issues/481, https://github.com/Snawoot/ssh-tarpit/issues/8
"""

import asyncio
import os
import resource
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path

from tests.edge.control import Control
from tests.edge.processes import listening
from tests.edge.small_store import eventually
from tests.engines import Engine

_MORE = 4
_TOLD = "connections are turned away: all file descriptors are in use"


def limit(pid: int, *, more: int) -> None:
    """Let a process open so many more, and none after them."""
    used = {int(fd.name) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    free = [number for number in range(1000) if number not in used]
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[more], hard))


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def crowded(pid: int, port: int, log: Callable[[], str]) -> float:
    """Crowd a process until it says so; return the CPU that it takes in a second of it."""
    limit(pid, more=_MORE)
    with ExitStack() as strangers:

        async def is_told() -> bool:
            # One more each time: those who are turned away come again.
            strangers.enter_context(socket.create_connection(("127.0.0.1", port)))
            return _TOLD in log()

        await eventually(is_told)
        before_s = cpu_s(pid)
        await asyncio.sleep(1)  # nothing happens: that is the claim
        return cpu_s(pid) - before_s


async def test_doors_and_loader_say_so_and_go_on(valkey: Engine, tmp_path: Path) -> None:
    control = Control(tmp_path, valkey.url)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(control.stop)
        await control.start()
        ports = {**control.admin_ports, "api": control.api_port, "sftp": control.sftp_port}
        spent_s = []
        for name, process in control.processes.items():
            spent_s.append(await crowded(process.pid, ports[name], partial(control.log, name)))
            await control.until(name, 200)
        known = await control.login()

    assert known == (401, "")
    assert max(spent_s) < 0.5
    for name in control.processes:
        assert "Traceback" not in control.log(name)
        assert control.log(name).count(_TOLD) <= 2


async def test_bid_listener_says_so_and_goes_on(valkey: Engine) -> None:
    async with listening(redis_url=valkey.url, default_recipient="dsp") as listener:
        await eventually(lambda: bids_are_answered(listener.port))
        (worker,) = listener.workers()

        spent_s = await crowded(worker, listener.port, lambda: "".join(listener.log))

        await eventually(lambda: bids_are_answered(listener.port))
        assert spent_s < 0.5
        assert "Traceback" not in "".join(listener.log)


async def bids_are_answered(port: int) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        said = await reader.readline()
    except ConnectionResetError:  # turned away with the question unread
        return False
    finally:
        writer.close()
    return said.startswith(b"HTTP/1.1 4")
