"""
Starts the workers, starts a dead one again, and stops all of them.

    supervisor   listening sockets, memory of the metrics, health and metrics port
      worker 0     one event loop
      worker 1     ...

The sockets are bound here, one for each worker (SO_REUSEPORT spreads the
connections), so that a port in use is one clear line and not N, and so that the
clients of a worker that died wait for the next one. No bid passes through this
process.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence

from aiohttp import web

from rtb.server import metrics
from rtb.server.admin import Board, application
from rtb.server.metrics import Gauge, Slab
from rtb.settings import RtbSettings
from segments import child
from segments.tls import context_of

_log = logging.getLogger(__name__)

_BACKLOG = 4096
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_WELL_AFTER_S = 5.0
_STOP_MARGIN_S = 2.0
"""What a worker may take beyond its drain before it is killed."""


class CannotListen(Exception):
    """A port can't be had; the message says which, and why."""


def listen(host: str, port: int, workers: int) -> list[socket.socket]:
    """
    Bind a socket for each worker, all to one port.

    Raises:
        CannotListen: It is in use, or not ours to use.
    """
    sockets: list[socket.socket] = []
    try:
        # Alone first: to a second service, SO_REUSEPORT would just give the port as well.
        with contextlib.closing(_bound(host, port, is_shared=False)) as alone:
            port = alone.getsockname()[1]
        for _ in range(workers):
            sockets.append(_bound(host, port, is_shared=workers > 1))
            sockets[-1].listen(_BACKLOG)
    except OSError as error:
        for one in sockets:
            one.close()
        raise CannotListen(f"can't listen on {host}:{port}: {error.strerror}") from None
    return sockets


def _bound(host: str, port: int, *, is_shared: bool) -> socket.socket:
    family, *_, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(address)
    except OSError:
        one.close()
        raise
    return one


class Supervisor:
    """
    The bid listener as a whole.

    Args:
        settings: Each worker reads its own, from the same environment.

    Raises:
        CannotListen: The port can't be had.
        segments.tls.UnusableTls: There is no TLS with these files.
    """

    def __init__(self, settings: RtbSettings) -> None:
        self._settings = settings
        # Each worker reads its own; what is wrong with them is said once, by us.
        context_of(settings.tls)
        self._admin_ssl = context_of(settings.admin_tls)
        self._sockets = listen(settings.host, settings.port, settings.workers)
        self._metrics_fd = metrics.create(settings.workers)
        self._slabs = [Slab(self._metrics_fd, index) for index in range(settings.workers)]
        self.port: int = self._sockets[0].getsockname()[1]

    async def run(self, stop: asyncio.Event) -> None:
        """
        Serve until `stop` is set, then drain.

        Raises:
            CannotListen: The admin port can't be had.
        """
        async with contextlib.AsyncExitStack() as running:
            admin_port = await self._start_admin(running)
            keeping = [
                asyncio.create_task(self._keep(index, one))
                for index, one in enumerate(self._sockets)
            ]
            _log.info(
                "bids on port %d, health and metrics on port %d, %d worker(s)",
                self.port,
                admin_port,
                self._settings.workers,
            )
            await stop.wait()
            _log.info("draining")
            # Ours first: as long as one of us listens, the kernel takes new clients.
            for one in self._sockets:
                one.close()
            for task in keeping:
                task.cancel()
            await asyncio.wait(keeping)

    async def _start_admin(self, running: contextlib.AsyncExitStack) -> int:
        board = Board(self._slabs, self._settings.catalog_max_age_s)
        runner = web.AppRunner(application(board), access_log=None)
        await runner.setup()
        running.push_async_callback(runner.cleanup)
        host, port = self._settings.host, self._settings.admin_port
        try:
            await web.TCPSite(runner, host, port, ssl_context=self._admin_ssl).start()
        except OSError as error:
            # asyncio's text quotes the address itself; the number is enough.
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            raise CannotListen(f"can't listen on {host}:{port}: {reason}") from None
        bound: int = runner.addresses[0][1]
        return bound

    async def _keep(self, index: int, listening: socket.socket) -> None:
        """Keep one worker running until cancelled, which drains it."""
        loop = asyncio.get_running_loop()
        argv = self._argv(index, listening.fileno())
        fds = (listening.fileno(), self._metrics_fd)
        pause_s = _FIRST_PAUSE_S
        while True:
            started_at_s = loop.time()
            process = await child.start(argv, pass_fds=fds)
            try:
                status = await process.wait()
            except asyncio.CancelledError:
                within_s = self._settings.drain_s + _STOP_MARGIN_S
                await child.stop(process, within_s=within_s)
                raise
            self._slabs[index].cells[Gauge.PID] = 0
            self._slabs[index].cells[Gauge.BEAT_AT_S] = 0
            if loop.time() - started_at_s > _WELL_AFTER_S:
                pause_s = _FIRST_PAUSE_S
            _log.error("worker %d ended with status %d; starting it again", index, status)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _argv(self, index: int, listen_fd: int) -> Sequence[str]:
        return (
            sys.executable,
            "-m",
            "rtb.server.worker",
            f"--index={index}",
            f"--listen-fd={listen_fd}",
            f"--metrics-fd={self._metrics_fd}",
        )


async def supervise(settings: RtbSettings) -> None:
    """
    Run the bid listener until SIGTERM or SIGINT.

    Raises:
        CannotListen: A port can't be had.
        segments.tls.UnusableTls: There is no TLS with these files.
    """
    supervisor = Supervisor(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    await supervisor.run(stop)
