"""
A worker's number and sockets, and the process that has them now.

    keep      starts a process, which opens the port when it can enrich, or soon; restarts it
    replace   starts a successor on the same sockets; it accepts nothing until it can
              enrich, and only then is the incumbent told to drain

A roll refuses no client, and exposes no bid to a worker without store or catalog. Restart and
replacement run in one task, `keep`, so they can't race. If the incumbent dies while its successor
starts, the successor is stopped, and the replacement begins again with a new incumbent.

Each process has its own row of the counters. There is one row more than worker slots: only one slot
at a time has two processes.
"""

import asyncio
import logging
import math
import socket
from collections.abc import Sequence

from rtb.server.metrics.layout import Gauge
from rtb.server.metrics.shared_counters import SharedCounters
from rtb.server.settings_handoff import SettingsHandoff
from segments.runtime import child_process
from segments.runtime.fork_server import ForkServer
from segments.runtime.pauses import Backoff
from segments.runtime.supervision import supervise

_log = logging.getLogger(__name__)

READY_WITHIN_S = 30.0
"""For a successor to be able to enrich."""

OPEN_WITHIN_S = 2.0
"""For a first process to be able to enrich; then it accepts nevertheless, and bids pass through."""

_PAUSES = Backoff(0.1, 5.0)
_WELL_AFTER_S = 5.0
_STOP_MARGIN_S = 2.0
"""From the end of a worker's time to drain until it is killed."""

_POLL_S = 0.02
_TRIES = 3
"""At a replacement whose incumbent keeps dying."""


class NotReplaced(Exception):
    """A successor failed to start accepting; the message has the reason."""


class Rows:
    """
    The rows of the counters, each for one process at a time.

    Args:
        fd: Of the memory that `rtb.server.metrics.shared_counters.create` made.
        count: The number of rows.
    """

    def __init__(self, fd: int, count: int) -> None:
        self.fd = fd
        self.all_counters = [SharedCounters(fd, index) for index in range(count)]
        self._free = list(range(count))

    def take(self) -> int:
        """Return the lowest free row."""
        row = min(self._free)
        self._free.remove(row)
        return row

    def give_back(self, row: int) -> None:
        """Free an ended process's row: counters stay, gauges are wiped."""
        self.all_counters[row].wipe()
        self._free.append(row)


class _Running:
    def __init__(self, process: child_process.Process, row: int, rows: Rows) -> None:
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
    """A wish for a process with other settings; granted or refused once."""

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
    A worker of the bid listener, through all its processes.

    Args:
        number: The worker's number, from 0.
        listening: Its sockets, one for each port; owned by the caller.
        rows: Shared by all slots.
        handed: The settings of the first process.
        supervisor: The address for health and metrics.
        fork_server: Starts the processes.
    """

    def __init__(
        self,
        number: int,
        listening: Sequence[socket.socket],
        rows: Rows,
        handed: SettingsHandoff,
        supervisor: bytes,
        fork_server: ForkServer,
    ) -> None:
        self.number = number
        self._listening = listening
        self._rows = rows
        self._handed = handed
        self._supervisor = supervisor
        self._fork_server = fork_server
        self._incumbent: _Running | None = None
        self._alive: set[_Running] = set()
        self._wish: _Wish | None = None
        self._is_wished = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    @property
    def counters(self) -> SharedCounters | None:
        """The row of the process in the slot; `None` without one."""
        return None if self._incumbent is None else self._incumbent.counters

    @property
    def is_listening(self) -> bool:
        """Whether the process in the slot accepts clients."""
        return self._incumbent is not None and self._incumbent.is_listening

    async def keep(self) -> None:
        """Keep a worker running until cancelled; then drain the slot."""
        try:
            await self._keep()
        finally:
            await asyncio.gather(*(self._stop(one) for one in tuple(self._alive)))

    async def replace(self, handed: SettingsHandoff) -> None:
        """
        Replace the process, with these settings, and wait for the old one's drain.

        Raises:
            NotReplaced: The old process stays.
        """
        self._wish = _Wish(handed)
        self._is_wished.set()
        try:
            await self._wish.granted
        finally:
            self._wish = None
            self._is_wished.clear()

    async def _keep(self) -> None:
        await self._begin(OPEN_WITHIN_S)
        await supervise(
            f"worker {self.number}", self._until_ended, self._begin, _log,
            pauses=_PAUSES, well_after_s=_WELL_AFTER_S,
        )  # fmt: skip

    async def _begin(self, accept_after_s: float = 0) -> None:
        # At a restart clients wait in the accept queue.
        self._incumbent = await self._start(self._handed, accept_after_s)

    async def _until_ended(self) -> int:
        """Wait until the slot's process ends, through replacements."""
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
        """Replace the incumbent by a successor; on failure, refuse the wish or try again."""
        successor = await self._start(wish.handed, math.inf)
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
        # A restart follows; this successor has no clients yet.
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
            NotReplaced: The successor ended or was too slow.
        """
        loop = asyncio.get_running_loop()
        give_up_at_s = loop.time() + READY_WITHIN_S
        while not successor.is_listening and not incumbent.ended.done():
            if successor.ended.done():
                raise NotReplaced(f"its successor ended with status {successor.ended.result()}")
            if loop.time() > give_up_at_s:
                raise NotReplaced(f"its successor was not ready after {READY_WITHIN_S:.0f} s")
            await asyncio.sleep(_POLL_S)

    async def _start(self, handed: SettingsHandoff, accept_after_s: float) -> _Running:
        row = self._rows.take()
        listen_fds = [one.fileno() for one in self._listening]
        try:
            process = await self._fork_server.start(
                "rtb.server.worker",
                self._arguments(row, listen_fds, handed.fd, accept_after_s),
                pass_fds=(*listen_fds, self._rows.fd, handed.fd),
            )
        except BaseException:
            self._rows.give_back(row)
            raise
        running = _Running(process, row, self._rows)
        self._alive.add(running)
        running.ended.add_done_callback(lambda _: self._alive.discard(running))
        return running

    def _arguments(
        self, row: int, listen_fds: Sequence[int], settings_fd: int, accept_after_s: float
    ) -> Sequence[str]:
        return (
            f"--index={self.number}",
            f"--row={row}",
            *(f"--listen-fd={fd}" for fd in listen_fds),
            f"--metrics-fd={self._rows.fd}",
            f"--settings-fd={settings_fd}",
            f"--supervisor={self._supervisor.hex()}",
            f"--accept-after-s={accept_after_s}",
        )

    async def _stop(self, running: _Running) -> None:
        within_s = self._handed.settings.drain_s + _STOP_MARGIN_S
        await child_process.stop(running.process, within_s=within_s)
        await running.ended
