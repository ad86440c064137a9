"""
Starts the workers, starts a dead one again, replaces all of them, and stops them.

    supervisor   listening sockets, memory of the metrics, health and metrics port
      worker 0     one event loop
      worker 1     ...

SIGHUP rolls: the settings are read anew, and one worker after the other is
replaced by one that has them (worker_slot.py), without a client noticing. Settings that
are wrong, or with which a worker does not get ready, leave the old ones in place.
No bid passes through this process.
"""

import asyncio
import contextlib
import logging
import os
import signal

from aiohttp import web

from rtb.server.listening_sockets import CannotListen, listen
from rtb.server.metrics import shared_counters
from rtb.server.metrics.admin_port import Board, application
from rtb.server.metrics.layout import Gauge
from rtb.server.settings_handoff import SettingsHandoff
from rtb.server.worker_slot import NotReplaced, Rows, WorkerSlot
from rtb.settings import RtbSettings
from segments.runtime import http_server
from segments.runtime.settings_reader import WrongSettings, settings_of
from segments.runtime.tls import UnusableTls, context_of

_log = logging.getLogger(__name__)

_AT_THE_START = ("host", "port", "admin_port", "workers", "admin_tls_cert", "admin_tls_key")
"""Settings of the supervisor itself, which a roll leaves as they were."""


class Supervisor:
    """
    The bid listener as a whole.

    Args:
        settings: Of the first workers; each roll reads them anew from the environment.

    Raises:
        CannotListen: The port can't be had.
        segments.runtime.tls.UnusableTls: There is no TLS with these files.
    """

    def __init__(self, settings: RtbSettings) -> None:
        self._settings = settings
        # Each worker reads its own files; what is wrong with them is said once, by us.
        context_of(settings.tls)
        self._admin_ssl = context_of(settings.admin_tls)
        handed = SettingsHandoff(settings)
        self._sockets = listen(settings.host, settings.port, settings.workers)
        # One row more than workers: while one is replaced, it is two processes.
        rows = settings.workers + 1
        self._rows = Rows(shared_counters.create(rows), rows)
        self._seats = [
            WorkerSlot(number, one, self._rows, handed) for number, one in enumerate(self._sockets)
        ]
        self.port: int = self._sockets[0].getsockname()[1]

    async def run(self, stop: asyncio.Event, at_once: asyncio.Event, roll: asyncio.Event) -> None:
        """
        Serve until `stop` is set, then drain; replace the workers whenever `roll` is set.

        Between the two it says that it is not ready, and goes on accepting for a while: a
        load balancer sends on until it has looked.

        Args:
            stop: Set once.
            at_once: Set with it, or later: nobody has to notice first.
            roll: Cleared when a roll begins, so one that is asked for during
                another follows it.

        Raises:
            CannotListen: The admin port can't be had.
        """
        async with contextlib.AsyncExitStack() as running:
            admin_port = await self._start_admin(running)
            keeping = [asyncio.create_task(seat.keep()) for seat in self._seats]
            rolling = asyncio.create_task(self._roll_for_ever(roll))
            _log.info(
                "bids on port %d, health and metrics on port %d, %d worker(s)",
                self.port,
                admin_port,
                self._settings.workers,
            )
            await stop.wait()
            await self._until_noticed(at_once)
            _log.info("draining")
            # Ours first: as long as one of us listens, the kernel takes new clients.
            for one in self._sockets:
                one.close()
            for task in (rolling, *keeping):
                task.cancel()
            await asyncio.wait((rolling, *keeping))

    async def _until_noticed(self, at_once: asyncio.Event) -> None:
        for counters in self._rows.all_counters:
            counters.cells[Gauge.IS_STOPPING] = 1
        within_s = self._settings.stop_accepting_after_s
        if within_s and not at_once.is_set():
            _log.info("stopping: not ready any more, accepting for %g s", within_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(at_once.wait(), within_s)

    async def _roll_for_ever(self, roll: asyncio.Event) -> None:
        while True:
            await roll.wait()
            roll.clear()
            try:
                settings = settings_of(RtbSettings)
                context_of(settings.tls)
            except (WrongSettings, UnusableTls) as wrong:
                reason = "; ".join(str(wrong).splitlines())
                _log.error("not rolled, all workers go on as they are: %s", reason)
            else:
                await self._roll(settings)

    async def _roll(self, settings: RtbSettings) -> None:
        """Replace one worker after the other; at the first that can't be, leave the others."""
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
                    "roll stopped, worker %d and those behind it go on as they are: %s",
                    seat.number,
                    reason,
                )
                return
        _log.info("rolled %d worker(s)", len(self._seats))

    async def _start_admin(self, running: contextlib.AsyncExitStack) -> int:
        board = Board(
            self._rows.all_counters,
            in_office=lambda: [seat.counters for seat in self._seats],
        )
        runner = http_server.runner_of(application(board))
        await runner.setup()
        running.push_async_callback(runner.cleanup)
        host, port = self._settings.admin_host, self._settings.admin_port
        try:
            await web.TCPSite(runner, host, port, ssl_context=self._admin_ssl).start()
        except OSError as error:
            # asyncio's text quotes the address itself; the number is enough.
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            raise CannotListen(f"can't listen on {host}:{port}: {reason}") from None
        bound: int = runner.addresses[0][1]
        return bound


async def supervise(settings: RtbSettings) -> None:
    """
    Run the bid listener until SIGTERM or SIGINT; replace its workers at each SIGHUP.

    After SIGTERM it accepts for `stop_accepting_after_s`; a second one, or SIGINT, ends that.

    Raises:
        CannotListen: A port can't be had.
        segments.runtime.tls.UnusableTls: There is no TLS with these files.
    """
    supervisor = Supervisor(settings)
    stop, at_once, roll = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hurry() -> None:
        at_once.set()
        stop.set()

    loop.add_signal_handler(signal.SIGHUP, roll.set)
    loop.add_signal_handler(signal.SIGTERM, lambda: hurry() if stop.is_set() else stop.set())
    loop.add_signal_handler(signal.SIGINT, hurry)
    await supervisor.run(stop, at_once, roll)
