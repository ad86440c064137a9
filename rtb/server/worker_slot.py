"""
A worker's place: one socket, one number, and the process that has it now.

    keep      a process that ends is started again
    replace   a successor is started on the same socket, accepts nothing until it
              could enrich, and only when it accepts is the incumbent told to drain

So nobody is refused at any moment, and no bid meets a worker without store or
catalog because of a roll. One task, `keep`, does all of it: a worker that dies
while its successor starts can't be started again by one hand and followed by
another. If that happens, the successor is given up, the dead one is started again
as any, and the succession is begun anew.

Each process counts in a row of the counters that is its own for as long as it lives.
There is one row more than there are seats, for the one seat that has two
processes at a time.
"""

import asyncio
import logging
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence

from rtb.server.metrics.layout import Gauge
from rtb.server.metrics.shared_counters import SharedCounters
from rtb.server.settings_handoff import SettingsHandoff
from segments.runtime import child_process
from segments.runtime.pauses import Backoff
from segments.runtime.supervision import supervise

_log = logging.getLogger(__name__)

READY_WITHIN_S = 30.0
"""How long a successor may take until it could enrich."""

_PAUSES = Backoff(0.1, 5.0)
_WELL_AFTER_S = 5.0
_STOP_MARGIN_S = 2.0
"""What a worker may take beyond its drain before it is killed."""

_POLL_S = 0.02
_TRIES = 3
"""How often a succession is begun whose incumbent ends meanwhile."""


class NotReplaced(Exception):
    """A successor did not come as far as its incumbent is; the message says why."""


class Rows:
    """
    The rows of the counters, each of which one process at a time counts in.

    Args:
        fd: Of the memory that `rtb.server.metrics.shared_counters.create` made.
        count: How many there are.
    """

    def __init__(self, fd: int, count: int) -> None:
        self.fd = fd
        self.all_counters = [SharedCounters(fd, index) for index in range(count)]
        self._free = list(range(count))

    def take(self) -> int:
        """Return a row that nobody counts in, the lowest."""
        row = min(self._free)
        self._free.remove(row)
        return row

    def give_back(self, row: int) -> None:
        """Take it from a process that has ended: what it counted stays, what it was does not."""
        self.all_counters[row].wipe()
        self._free.append(row)


class _Running:
    """A process, and the row that it counts in."""

    def __init__(self, process: Process, row: int, rows: Rows) -> None:
        self.process = process
        self.counters = rows.all_counters[row]
        self.ended = asyncio.create_task(self._until_ended(row, rows))

    async def _until_ended(self, row: int, rows: Rows) -> int:
        status = await self.process.wait()
        rows.give_back(row)
        return status

    @property
    def is_listening(self) -> bool:
        cells = self.counters.cells
        return cells[Gauge.PID] == self.process.pid and bool(cells[Gauge.IS_LISTENING])


class _Wish:
    """That a process with these settings have the seat; granted once, or refused."""

    def __init__(self, handed: SettingsHandoff) -> None:
        self.handed = handed
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.tries_left = _TRIES

    def grant(self) -> None:
        if not self.granted.done():
            self.granted.set_result(None)

    def refuse(self, reason: NotReplaced) -> None:
        if not self.granted.done():
            self.granted.set_exception(reason)


class WorkerSlot:
    """
    One worker of the bid listener, whichever process that is.

    Args:
        number: Which one, from 0.
        listening: Its socket; ours, and open until we close it.
        rows: Shared by all seats.
        handed: What the first process is started with.
    """

    def __init__(
        self, number: int, listening: socket.socket, rows: Rows, handed: SettingsHandoff
    ) -> None:
        self.number = number
        self._listening = listening
        self._rows = rows
        self._handed = handed
        self._incumbent: _Running | None = None
        self._alive: set[_Running] = set()
        self._wish: _Wish | None = None
        self._is_wished = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    @property
    def counters(self) -> SharedCounters | None:
        """What the process that has the seat says of itself; `None` while there is none."""
        return None if self._incumbent is None else self._incumbent.counters

    async def keep(self) -> None:
        """Keep a worker running until cancelled, which drains whoever runs."""
        try:
            await self._keep()
        finally:
            await asyncio.gather(*(self._stop(one) for one in tuple(self._alive)))

    async def replace(self, handed: SettingsHandoff) -> None:
        """
        Have a process with these settings take the seat, and wait until the last one has drained.

        Raises:
            NotReplaced: The one that has the seat keeps it.
        """
        self._wish = _Wish(handed)
        self._is_wished.set()
        try:
            await self._wish.granted
        finally:
            self._wish = None
            self._is_wished.clear()

    async def _keep(self) -> None:
        await self._begin()
        await supervise(
            f"worker {self.number}", self._until_ended, self._begin, _log,
            pauses=_PAUSES, well_after_s=_WELL_AFTER_S,
        )  # fmt: skip

    async def _begin(self) -> None:
        self._incumbent = await self._start(self._handed, when_ready=False)

    async def _until_ended(self) -> int:
        """Wait until the process that has the seat ends, whoever of them that is by then."""
        while True:
            assert self._incumbent is not None
            wished = asyncio.create_task(self._is_wished.wait())
            try:
                await asyncio.wait(
                    (self._incumbent.ended, wished), return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                wished.cancel()
            if self._incumbent.ended.done():
                status = self._incumbent.ended.result()
                self._incumbent = None
                return status
            if self._wish is not None:
                self._is_wished.clear()
                await self._succeed(self._incumbent, self._wish)

    async def _succeed(self, incumbent: _Running, wish: _Wish) -> None:
        """Have a successor take the seat; where it does not, the wish is refused or stays."""
        successor = await self._start(wish.handed, when_ready=True)
        try:
            await self._until_listening(successor, incumbent)
        except NotReplaced as reason:
            await self._stop(successor)
            wish.refuse(reason)
            return
        if not incumbent.ended.done():
            self._incumbent, self._handed = successor, wish.handed
            pids = successor.process.pid, incumbent.process.pid
            _log.info("worker %d: process %d accepts, process %d drains", self.number, *pids)
            self._draining = asyncio.create_task(self._stop(incumbent))
            self._draining.add_done_callback(lambda _: wish.grant())
            return
        # The successor may not accept yet, so nobody misses it.
        await self._stop(successor)
        wish.tries_left -= 1
        if wish.tries_left:
            self._is_wished.set()
        else:
            wish.refuse(NotReplaced("it ended itself while its successor started, again and again"))

    async def _until_listening(self, successor: _Running, incumbent: _Running) -> None:
        """
        Wait until a successor accepts, or the incumbent has ended.

        Raises:
            NotReplaced: It never will.
        """
        loop = asyncio.get_running_loop()
        give_up_at_s = loop.time() + READY_WITHIN_S
        while not successor.is_listening and not incumbent.ended.done():
            if successor.ended.done():
                raise NotReplaced(f"its successor ended with status {successor.ended.result()}")
            if loop.time() > give_up_at_s:
                raise NotReplaced(f"its successor was not ready after {READY_WITHIN_S:.0f} s")
            await asyncio.sleep(_POLL_S)

    async def _start(self, handed: SettingsHandoff, *, when_ready: bool) -> _Running:
        row = self._rows.take()
        fds = (self._listening.fileno(), self._rows.fd, handed.fd)
        try:
            process = await child_process.start(
                self._argv(row, *fds, when_ready=when_ready), pass_fds=fds
            )
        except BaseException:
            self._rows.give_back(row)
            raise
        running = _Running(process, row, self._rows)
        self._alive.add(running)
        running.ended.add_done_callback(lambda _: self._alive.discard(running))
        return running

    def _argv(
        self, row: int, listen_fd: int, metrics_fd: int, settings_fd: int, *, when_ready: bool
    ) -> Sequence[str]:
        return (
            sys.executable,
            "-m",
            "rtb.server.worker",
            f"--index={self.number}",
            f"--row={row}",
            f"--listen-fd={listen_fd}",
            f"--metrics-fd={metrics_fd}",
            f"--settings-fd={settings_fd}",
            *(("--when-ready",) if when_ready else ()),
        )

    async def _stop(self, running: _Running) -> None:
        within_s = self._handed.settings.drain_s + _STOP_MARGIN_S
        await child_process.stop(running.process, within_s=within_s)
        await running.ended
