"""
The load driver whose requests come when they are due, whatever became of those before them.

An exchange does not wait for our last answer before its next user comes by. A driver
that does (a closed loop, as `loadtest.driver`) sends less the slower we are, and never
sees what the requests it did not send would have met: coordinated omission. So

- when each request is due is known before the clock starts, and its latency counts
  **from then**, not from when it was sent: where the service, the connections or the
  driver itself are held up, that shows;
- a request takes any connection that is free, and waits for one where none is.

The driver shares its CPU with the store and must not become what is measured: plain
sockets under one epoll, a timerfd for the next request that is due (epoll's own timeout
counts in milliseconds), and no spinning, which would take the CPU from the store. When
an answer came is read from the clock as epoll returns. How late the driver itself sent
is reported beside the latencies, for of a busy machine it may be the driver that is slow.
"""

import ctypes
import gc
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from random import Random
from typing import Generic, NamedTuple, TypeVar

from loadtest.driver import ANSWERED_WITHIN_S

_NS_PER_S = 1_000_000_000
_READ_BYTES = 262_144
_START_IN_NS = 10_000_000
_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK = 0o4000
_TFD_CLOEXEC = 0o2000000
_TFD_TIMER_ABSTIME = 1

T = TypeVar("T")

Read = Callable[[int, bytes], T | None]
"""
Says what has been received in answer to the request of a number.

`None` while the answer is not whole; what it raises ends the run.
"""


class Sample(NamedTuple, Generic[T]):
    """What became of one request; times in nanoseconds."""

    request: int  # its place in `sent`
    latency_ns: int  # from when it was due until its answer was whole
    held_up_ns: int  # from when it was due until it was sent
    answer: T | None  # `None` if its connection ended before


class NotAnswered(Exception):
    """The service can't be connected to, or stopped answering."""


def steady_ns(rate_per_s: float, count: int) -> list[int]:
    """Return when requests of a constant rate are due, in nanoseconds from the start."""
    return [round(number * _NS_PER_S / rate_per_s) for number in range(count)]


def poisson_ns(rate_per_s: float, count: int, rng: Random) -> list[int]:
    """
    Return when requests of many senders are due who know nothing of each other.

    A Poisson process: the gaps are exponential. In nanoseconds from the start.
    """
    mean_ns = _NS_PER_S / rate_per_s
    return [round(at) for at in accumulate(rng.expovariate(1) * mean_ns for _ in range(count))]


def open_loop(
    address: tuple[str, int],
    sent: Sequence[bytes],
    *,
    due_ns: Sequence[int],
    connections: int,
    read: Read[T],
) -> list[Sample[T]]:
    """
    Send requests when they are due, and wait for all answers; blocks the thread.

    Args:
        address: Host and port of the service.
        sent: Whole requests, sent in turn.
        due_ns: When each request is due, from the start, rising.
        connections: Kept alive; one request in flight on each.
        read: See there.

    Returns:
        One sample for each request, in the order in which they ended. A
        connection that ends in the middle of a request ends that one without
        an answer, and is opened anew; so is one that ends between two.

    Raises:
        NotAnswered: See there.
    """
    loop = _Loop(address, sent, due_ns, read)
    collects = gc.isenabled()
    gc.disable()
    try:
        return loop.run(connections)
    finally:
        loop.close()
        if collects:
            gc.enable()


class _Connection:
    """One keep-alive connection, and the request that is in flight on it, if one is."""

    __slots__ = ("due_ns", "is_busy", "received", "request", "sent_ns", "socket")

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.is_busy = False
        self.received = b""
        self.request = 0
        self.due_ns = self.sent_ns = 0


class _Loop(Generic[T]):
    def __init__(
        self,
        address: tuple[str, int],
        sent: Sequence[bytes],
        due_ns: Sequence[int],
        read: Read[T],
    ) -> None:
        self._address = address
        self._sent = sent
        self._due_ns = due_ns
        self._read = read
        self._samples: list[Sample[T]] = []
        self._free: deque[_Connection] = deque()
        self._fd_to_connection: dict[int, _Connection] = {}
        self._timer = _Timer()
        self._epoll = select.epoll()
        self._epoll.register(self._timer.fd, select.EPOLLIN)

    def run(self, connections: int) -> list[Sample[T]]:
        """Run until each request has ended."""
        for _ in range(connections):
            connection = _Connection(self._opened())
            self._watch(connection)
            self._free.append(connection)
        now_ns, poll = time.monotonic_ns, self._epoll.poll
        timer, free, samples = self._timer, self._free, self._samples
        fd_to_connection = self._fd_to_connection
        start_ns = now_ns() + _START_IN_NS
        due_ns = [start_ns + due for due in self._due_ns]
        count, begun = len(due_ns), 0
        while len(samples) < count:
            # What is due and finds no connection waits; its time counts all the same.
            while begun < count and free:
                at_ns = now_ns()
                if due_ns[begun] > at_ns:
                    timer.set(due_ns[begun])
                    break
                self._send(free.popleft(), begun, due_ns[begun], at_ns)
                begun += 1
            events = poll(ANSWERED_WITHIN_S)
            at_ns = now_ns()
            if not events and len(samples) < begun:
                raise NotAnswered(f"no answer for {ANSWERED_WITHIN_S} s")
            for fd, _ in events:
                if fd == timer.fd:
                    timer.clear()
                else:
                    self._receive(fd_to_connection[fd], at_ns)
        return samples

    def close(self) -> None:
        self._epoll.close()
        self._timer.close()
        for connection in self._fd_to_connection.values():
            connection.socket.close()

    def _send(self, connection: _Connection, number: int, due_ns: int, at_ns: int) -> None:
        connection.is_busy = True
        connection.request = number % len(self._sent)
        connection.due_ns = due_ns
        connection.sent_ns = at_ns
        try:
            # A request is smaller than a socket's empty buffer: one call takes it whole.
            connection.socket.sendall(self._sent[connection.request])
        except OSError:
            self._end(connection, None, time.monotonic_ns())
            self._reopen(connection)

    def _receive(self, connection: _Connection, at_ns: int) -> None:
        try:
            data = connection.socket.recv(_READ_BYTES)
        except OSError:
            data = b""
        if not data:
            if connection.is_busy:
                self._end(connection, None, at_ns)
            self._reopen(connection)
            return
        received = connection.received + data if connection.received else data
        answer = self._read(connection.request, received)
        if answer is None:
            connection.received = received
            return
        self._end(connection, answer, at_ns)
        if _says_close(received):
            self._reopen(connection)

    def _end(self, connection: _Connection, answer: T | None, at_ns: int) -> None:
        due_ns = connection.due_ns
        self._samples.append(
            Sample(connection.request, at_ns - due_ns, connection.sent_ns - due_ns, answer)
        )
        connection.is_busy = False
        connection.received = b""
        self._free.append(connection)

    def _reopen(self, connection: _Connection) -> None:
        del self._fd_to_connection[connection.socket.fileno()]
        connection.socket.close()  # which takes it out of the epoll, too
        connection.socket = self._opened()
        self._watch(connection)

    def _watch(self, connection: _Connection) -> None:
        fd = connection.socket.fileno()
        self._fd_to_connection[fd] = connection
        self._epoll.register(fd, select.EPOLLIN)

    def _opened(self) -> socket.socket:
        try:
            opened = socket.create_connection(self._address, ANSWERED_WITHIN_S)
        except OSError as error:
            raise NotAnswered(f"no connection: {type(error).__name__}") from None
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened


def _says_close(answer: bytes) -> bool:
    return b"\r\nconnection: close" in answer[: answer.find(b"\r\n\r\n")].lower()


class _Timer:
    """A timerfd(2) on the clock of `time.monotonic_ns`; Python has them from 3.13 on."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._settime = libc.timerfd_settime
        self._settime.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        # struct itimerspec: interval and first expiry, seconds and nanoseconds of each.
        self._spec = (ctypes.c_long * 4)()
        self._address = ctypes.addressof(self._spec)
        self._at_ns = 0

    def set(self, at_ns: int) -> None:
        """Become readable at that time, unless that is set already."""
        if at_ns != self._at_ns:
            self._at_ns = at_ns
            self._spec[2], self._spec[3] = divmod(at_ns, _NS_PER_S)
            self._settime(self.fd, _TFD_TIMER_ABSTIME, self._address, None)

    def clear(self) -> None:
        """Be no longer readable."""
        os.read(self.fd, 8)

    def close(self) -> None:
        os.close(self.fd)
