"""
The faults that a soak injects in sequence, each mended before the next.

Requests may pass through only while a fault lasts. A roll is no fault: because of it none may.
"""

import asyncio
import os
import signal
import socket
import struct
import time
from collections.abc import Awaitable, Callable

from loadtest.servers import HOST
from loadtest.soak.refusals import REFUSALS, refusing
from loadtest.soak.scene import Misbehaved, Scene, until_mended, until_noticed
from loadtest.soak.shortages import (
    FULL_DISK,
    fill_disk,
    lock_ledger,
    take_files_away,
)
from loadtest.soak.strangers import crowd_doors, take_all_places

SILENCE_S = 2
"""The service's set wait for the rest of a request."""

_CUTS = 40
_SILENT = 6
_PATIENCE_S = 30.0


async def kill_store(scene: Scene) -> None:
    """SIGKILL the store's server."""
    pid = await _store_pid(scene)
    scene.shared.breaks()
    os.kill(pid, signal.SIGKILL)
    await until_noticed(scene)
    await until_mended(scene)


async def stall_store(scene: Scene) -> None:
    """SIGSTOP the store's server until the workers have given it up."""
    pid = await _store_pid(scene)
    scene.shared.breaks()
    os.kill(pid, signal.SIGSTOP)
    try:
        await until_noticed(scene)
    finally:
        os.kill(pid, signal.SIGCONT)
    await until_mended(scene)


async def kill_worker(scene: Scene) -> None:
    """SIGKILL a worker."""
    service = scene.service
    before = service.worker_pids()
    victim = scene.rng.choice(sorted(before))
    scene.shared.breaks()
    scene.shared.kills(time.monotonic_ns())
    os.kill(victim, signal.SIGKILL)
    await service.until(
        "a killed worker is started again",
        lambda: len(now := service.worker_pids()) == service.workers and victim not in now,
    )
    await until_mended(scene)


async def roll(scene: Scene) -> None:
    """SIGHUP: replace every worker, unnoticed by clients."""
    service = scene.service
    before = service.worker_pids()
    service.hang_up(signal.SIGHUP)
    await service.until(
        "a roll replaces every worker",
        lambda: len(now := service.worker_pids()) == service.workers and not now & before,
    )
    if await service.unready():
        raise Misbehaved("not ready after a roll")


async def cut_connections(scene: Scene) -> None:
    """Disconnect in the middle of requests, and between request and answer."""
    for _ in range(_CUTS):
        sent = scene.rng.choice(scene.dues).sent
        _, writer = await asyncio.open_connection(HOST, scene.service.port)
        writer.write(sent[: scene.rng.randint(1, len(sent))])
        await writer.drain()
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


async def fall_silent(scene: Scene) -> None:
    """Send half a request: the service must answer 408 and hang up."""
    await asyncio.gather(*(_fall_silent(scene) for _ in range(_SILENT)))


async def _fall_silent(scene: Scene) -> None:
    sent = scene.rng.choice(scene.dues).sent
    reader, writer = await asyncio.open_connection(HOST, scene.service.port)
    try:
        writer.write(sent[: scene.rng.randint(1, len(sent) - 1)])
        async with asyncio.timeout(SILENCE_S + _PATIENCE_S):
            answer = await reader.read()
    except TimeoutError:
        raise Misbehaved("half a request was waited for without an end") from None
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 408 ") or b"Connection: close" not in head or body:
        raise Misbehaved(f"half a request was answered {head[:40]!r}, not 408 and nothing more")


Fault = Callable[[Scene], Awaitable[None]]

NAME_TO_FAULT: dict[str, Fault] = {
    "store killed": kill_store,
    "worker killed": kill_worker,
    "roll": roll,
    "connections cut": cut_connections,
    "store stalled": stall_store,
    "half a request, then silence": fall_silent,
    "strangers crowd all doors": crowd_doors,
    "strangers take all places": take_all_places,
    "ledger locked": lock_ledger,
    "delivered files gone": take_files_away,
    FULL_DISK: fill_disk,
    **{f"store refuses to write: {code}": refusing(code) for code in REFUSALS},
}


async def _store_pid(scene: Scene) -> int:
    return int((await scene.redis.info("server"))["process_id"])
