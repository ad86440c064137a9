"""
The one disk of loader, REST doors and SFTP server is full, or their blobs are gone.

Each goes on, names cause and cure where its operator looks, and is well once the cause is gone.
"""

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from tests.edge.control import Control
from tests.engines import Engine
from tests.small_disk import MIB, mounted

_WITHIN_S = 60


async def until_ready_says(
    control: Control, name: str, claim: Callable[[int, dict[str, Any]], bool]
) -> dict[str, Any]:
    """Wait until what a process says of itself, asked strictly, is as claimed."""
    url = f"http://127.0.0.1:{control.admin_ports[name]}/health/ready?strict"
    async with asyncio.timeout(_WITHIN_S), aiohttp.ClientSession() as session:
        while True:
            assert control.processes[name].returncode is None, control.log(name)
            async with session.get(url) as answer:
                said: dict[str, Any] = json.loads(await answer.read())
                if claim(answer.status, said):
                    return said
            await asyncio.sleep(0.05)


async def test_full_disk_and_lost_blobs_end_no_process(valkey: Engine, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", size_bytes=48 * MIB) as disk:
        data = disk.path / "data"
        control = Control(tmp_path, valkey.url, SEGMENTS_DATA_DIR=str(data))
        async with AsyncExitStack() as stack:
            stack.push_async_callback(control.stop)
            await control.start()
            disk.fill()
            full = [
                await until_ready_says(control, name, lambda _, said: "no room" in said["reason"])
                for name in control.processes
            ]
            logins = {(await control.login())[0] for _ in range(5)}
            disk.make_room()
            (data / "blobs").rename(data / "away")
            gone = [
                await until_ready_says(control, name, lambda _, said: "not there" in said["reason"])
                for name in control.processes
            ]
            (data / "away").rename(data / "blobs")
            for name in control.processes:
                await until_ready_says(control, name, lambda status, _: status == 200)
            logs = [control.log(name) for name in control.processes]

    assert all(said["ready"] and said["status"] == "degraded" for said in full + gone)
    assert all("make room on its disk" in said["reason"] for said in full)
    assert all("mount it, or put it back" in said["reason"] for said in gone)
    assert logins <= {401, 503, 507}
    assert not any("Traceback" in log for log in logs)
