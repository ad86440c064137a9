"""
Starts, restarts, replaces and stops the workers.

    supervisor   listening sockets, memory of the metrics, port of health, metrics, /explain
      worker 0     one event loop
      worker 1     ...

SIGHUP rolls: the supervisor reads the settings again and replaces the workers in turn
(worker_slot.py), unnoticed by clients. Old workers stay if settings are wrong or a worker does not
get ready. No bid passes here.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from functools import partial

from aiohttp import web

from rtb.server.explain_endpoint import ExplainEndpoint
from rtb.server.listening_sockets import CannotListen, bound
from rtb.server.metrics import shared_counters
from rtb.server.metrics.admin_port import Board, application
from rtb.server.metrics.layout import Gauge, Where
from rtb.server.metrics.shared_counters import SharedCounters
from rtb.server.settings_handoff import SettingsHandoff
from rtb.server.worker_slot import NotReplaced, Rows, WorkerSlot
from rtb.settings import RtbSettings
from segments.runtime import http_server
from segments.runtime.fork_server import ForkServer
from segments.runtime.pauses import wait_or_stop
from segments.runtime.settings_reader import WrongSettings, settings_of
from segments.runtime.telemetry import metrics_sent
from segments.runtime.tls import UnusableTls, context_of

_log = logging.getLogger(__name__)

_POLL_S = 0.02

_AT_THE_START = (
    "host",
    "port",
    "grpc_port",
    "admin_port",
    "workers",
    "admin_tls_cert",
    "admin_tls_key",
    "explain_secret",
)
"""The supervisor's own; a roll does not change them."""


class Supervisor:
    """
    The whole bid listener.

    Args:
        settings: For the first workers; each roll reads them again.
        fork_server: Starts the workers.

    Raises:
        CannotListen: The port can't be bound.
        segments.runtime.tls.UnusableTls: The TLS files can't be used.
    """

    def __init__(self, settings: RtbSettings, fork_server: ForkServer) -> None:
        self._settings = settings
        # Workers load these files; a check here reports an error once.
        context_of(settings.tls)
        self._admin_ssl = context_of(settings.admin_tls)
        handed = SettingsHandoff(settings)
        each = [bound(settings.host, settings.port, settings.workers)]
        if settings.grpc_port is not None and settings.grpc_port != (settings.port or None):
            each.append(bound(settings.host, settings.grpc_port, settings.workers))
        self._ports = [sockets[0].getsockname()[1] for sockets in each]
        self._sockets = [one for sockets in each for one in sockets]
        # For workers' health and metrics; the kernel chooses the name.
        self._unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._unix.bind("")
        # One more: a worker that is being replaced is two processes.
        rows = settings.workers + 1
        memory = shared_counters.create(rows + 1)
        self._rows = Rows(memory, rows)
        self._own_counters = SharedCounters(memory, rows)
        self._explain: ExplainEndpoint | None = None
        if settings.explain_secret is not None:
            on_bug = partial(self._own_counters.count_bug, Where.EXPLAIN)
            self._explain = ExplainEndpoint(settings.explain_secret, settings, on_bug)
        self._seats = [
            WorkerSlot(number, own, self._rows, handed, self._unix.getsockname(), fork_server)
            for number, own in enumerate(zip(*each, strict=True))
        ]
        self.port: int = self._ports[0]

    async def run(self, stop: asyncio.Event, at_once: asyncio.Event, roll: asyncio.Event) -> None:
        """
        Serve until `stop` is set, then drain; replace workers at `roll`.

        After `stop`, the service is not ready, but accepts for `stop_accepting_after_s`, until load
        balancers' next health check.

        Args:
            stop: Set once.
            at_once: Set with `stop` or later; ends that time.
            roll: Cleared when a roll begins; set during a roll, another follows.

        Raises:
            CannotListen: The admin port can't be bound.
        """
        async with contextlib.AsyncExitStack() as running:
            admin_port = await self._start_admin(running)
            keeping = [asyncio.create_task(seat.keep()) for seat in self._seats]
            rolling = asyncio.create_task(self._roll_for_ever(roll))
            await self._until_open(stop)
            _log.info(
                "bids on port %d, health and metrics on port %d, %d worker(s)",
                self.port,
                admin_port,
                self._settings.workers,
            )
            for port in self._ports[1:]:
                _log.info("calls of gRPC on port %d as well", port)
            await stop.wait()
            await self._until_noticed(at_once)
            _log.info("draining")
            # Our copies first: the kernel accepts clients while any listens.
            for one in self._sockets:
                one.close()
            for task in (rolling, *keeping):
                task.cancel()
            await asyncio.wait((rolling, *keeping))

    async def _until_open(self, stop: asyncio.Event) -> None:
        """Wait until each worker listens."""
        while not stop.is_set() and not all(seat.is_listening for seat in self._seats):
            await wait_or_stop(stop, _POLL_S)

    async def _until_noticed(self, at_once: asyncio.Event) -> None:
        for counters in self._rows.all_counters:
            counters.cells[Gauge.IS_STOPPING] = 1
        within_s = self._settings.stop_accepting_after_s
        if within_s and not at_once.is_set():
            _log.info("stopping: not ready any more, accepting for %g s", within_s)
            await wait_or_stop(at_once, within_s)

    async def _roll_for_ever(self, roll: asyncio.Event) -> None:
        while True:
            await roll.wait()
            roll.clear()
            try:
                settings = settings_of(RtbSettings)
                context_of(settings.tls)
            except (WrongSettings, UnusableTls) as wrong:
                reason = "; ".join(str(wrong).splitlines())
                _log.error("not rolled, all workers keep their settings: %s", reason)
            else:
                await self._roll(settings)

    async def _roll(self, settings: RtbSettings) -> None:
        """Replace the workers in turn; stop at the first failure."""
        for name in _AT_THE_START:
            if getattr(settings, name) != getattr(self._settings, name):
                _log.warning("RTB_%s is read at the start only; a roll leaves it", name.upper())
        _log.info("rolling %d worker(s)", len(self._seats))
        handed = SettingsHandoff(settings)
        for seat in self._seats:
            try:
                await seat.replace(handed)
            except NotReplaced as reason:
                _log.error(
                    "roll stopped, worker %d and those after it keep their settings: %s",
                    seat.number,
                    reason,
                )
                return
        if self._explain is not None:
            self._explain.adopt(settings)
        _log.info("rolled %d worker(s)", len(self._seats))

    async def _start_admin(self, running: contextlib.AsyncExitStack) -> int:
        board = Board(
            [*self._rows.all_counters, self._own_counters],
            in_office=lambda: [seat.counters for seat in self._seats],
            url_scheme=lambda: "http" if self._settings.tls is None else "https",
            following=self._settings.following,
        )
        telemetry = self._settings.telemetry("listener")
        await running.enter_async_context(metrics_sent(telemetry, board.collect))
        app = application(board)
        if self._explain is not None:
            self._explain.add_to(app, board.unlike)
        runner = http_server.runner_of(app)
        await runner.setup()
        running.push_async_callback(runner.cleanup)
        host, port = self._settings.admin_host, self._settings.admin_port
        try:
            bound = await http_server.listen(runner, host, port, self._admin_ssl)
        except OSError as error:
            # asyncio's text repeats the address.
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            raise CannotListen(f"can't listen on {host}:{port}: {reason}") from None
        await web.SockSite(runner, self._unix).start()
        return bound


async def supervise(settings: RtbSettings, fork_server: ForkServer) -> None:
    """
    Run the bid listener until SIGTERM or SIGINT; replace workers at SIGHUP.

    After SIGTERM it accepts for `stop_accepting_after_s`; a second SIGTERM, or SIGINT, ends that.

    Raises:
        CannotListen: A port can't be bound.
        segments.runtime.tls.UnusableTls: The TLS files can't be used.
    """
    supervisor = Supervisor(settings, fork_server)
    stop, at_once, roll = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hurry() -> None:
        at_once.set()
        stop.set()

    loop.add_signal_handler(signal.SIGHUP, roll.set)
    loop.add_signal_handler(signal.SIGTERM, lambda: hurry() if stop.is_set() else stop.set())
    loop.add_signal_handler(signal.SIGINT, hurry)
    await supervisor.run(stop, at_once, roll)
