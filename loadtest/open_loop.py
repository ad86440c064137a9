"""
A load driver whose requests are sent when due, independent of earlier answers.

An exchange does not wait for our last answer before its next user comes. A closed-loop driver
(`loadtest.driver`) sends less the slower we are, and misses the latency of unsent requests:
coordinated omission. So

- due times are known before the clock starts, and latency counts **from then**: delays by service,
  connections or driver show;
- a request takes any free connection, or stream (`loadtest.call_loop`), and waits for one.

The driver shares its CPU with the store and must not become the bottleneck: plain sockets under a
single epoll, a timerfd for the next due request (epoll's timeout counts in milliseconds), and no
spinning. An answer's time is that of epoll's return.
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
READ_BYTES = 262_144
_START_IN_NS = 10_000_000
_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK = 0o4000
_TFD_CLOEXEC = 0o2000000
_TFD_TIMER_ABSTIME = 1

T = TypeVar("T")

Read = Callable[[int, bytes], T | None]
"""
Parses the bytes received for a request, given by number.

Returns `None` while the answer is incomplete; an exception ends the run.
"""


class Sample(NamedTuple, Generic[T]):
    """The result of a request; times in nanoseconds."""

    request: int  # its position in `sent`
    latency_ns: int  # from when it was due until its answer was complete
    held_up_ns: int  # from when it was due until it was sent
    answer: T | None  # `None` if its connection ended before


class NotAnswered(Exception):
    """The service can't be connected to, or stopped answering."""


def steady_ns(rate_per_s: float, count: int) -> list[int]:
    """Return due times of a constant rate, in nanoseconds from the start."""
    return [round(number * _NS_PER_S / rate_per_s) for number in range(count)]


def poisson_ns(rate_per_s: float, count: int, rng: Random) -> list[int]:
    """
    Return due times of many independent senders, in nanoseconds from the start.

    A Poisson process: the gaps are exponential.
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
    Send requests when due, and wait for all answers; blocks the thread.

    Args:
        address: Host and port of the service.
        sent: Whole requests, sent in turn.
        due_ns: From the start, ascending.
        connections: Kept alive; a single request in flight on each.
        read: See `Read`.

    Returns:
        A sample for each request, in the order of their ends. A connection that ends is reopened;
        its request in flight ends without an answer.

    Raises:
        NotAnswered: See there.
    """
    return _Http1Loop(address, sent, due_ns, read).run(connections)


class Place:
    """A place for a request in flight."""

    __slots__ = ("due_ns", "request", "sent_ns")

    def __init__(self) -> None:
        self.request = 0
        self.due_ns = self.sent_ns = 0


P = TypeVar("P", bound=Place)


class Loop(Generic[T, P]):
    """
    Due requests and samples; a protocol's loop sends and receives.

    Args:
        address: Host and port of the service.
        requests: The number of different requests, sent in turn.
        due_ns: From the start, ascending.
    """

    def __init__(self, address: tuple[str, int], requests: int, due_ns: Sequence[int]) -> None:
        self._address = address
        self._requests = requests
        self._due_ns = due_ns
        self._samples: list[Sample[T]] = []
        self._timer = _Timer()
        self._epoll = select.epoll()
        self._epoll.register(self._timer.fd, select.EPOLLIN)
        self.free: deque[P] = deque()

    def run(self, connections: int) -> list[Sample[T]]:
        """Send all requests; see `open_loop`."""
        collects = gc.isenabled()
        gc.disable()
        try:
            self.open(connections)
            return self._run()
        finally:
            self._epoll.close()
            self._timer.close()
            self.close()
            if collects:
                gc.enable()

    def open(self, connections: int) -> None:
        """Open connections, and make their places free."""
        raise NotImplementedError

    def send(self, place: P) -> None:
        """Send a place's request."""
        raise NotImplementedError

    def receive(self, fd: int, at_ns: int) -> None:
        """Read from a socket with data."""
        raise NotImplementedError

    def close(self) -> None:
        """Close all connections."""
        raise NotImplementedError

    def _run(self) -> list[Sample[T]]:
        now_ns, poll = time.monotonic_ns, self._epoll.poll
        timer, free, samples = self._timer, self.free, self._samples
        start_ns = now_ns() + _START_IN_NS
        due_ns = [start_ns + due for due in self._due_ns]
        count, begun = len(due_ns), 0
        while len(samples) < count:
            # A due request waits for a free place; its time counts.
            while begun < count and free:
                at_ns = now_ns()
                if due_ns[begun] > at_ns:
                    timer.set(due_ns[begun])
                    break
                place = free.popleft()
                place.request = begun % self._requests
                place.due_ns, place.sent_ns = due_ns[begun], at_ns
                self.send(place)
                begun += 1
            events = poll(ANSWERED_WITHIN_S)
            at_ns = now_ns()
            if not events and len(samples) < begun:
                raise NotAnswered(f"no answer for {ANSWERED_WITHIN_S} s")
            for fd, _ in events:
                if fd == timer.fd:
                    timer.clear()
                else:
                    self.receive(fd, at_ns)
        return samples

    def ended(self, place: P, answer: T | None, at_ns: int) -> None:
        """Take an answer, and make its place free."""
        due_ns = place.due_ns
        self._samples.append(Sample(place.request, at_ns - due_ns, place.sent_ns - due_ns, answer))
        self.free.append(place)

    def opened(self) -> socket.socket:
        """
        Open a socket, and watch it.

        Raises:
            NotAnswered: The service can't be connected to.
        """
        try:
            opened = socket.create_connection(self._address, ANSWERED_WITHIN_S)
        except OSError as error:
            raise NotAnswered(f"no connection: {type(error).__name__}") from None
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._epoll.register(opened, select.EPOLLIN)
        return opened


class _Connection(Place):
    __slots__ = ("is_busy", "received", "socket")

    def __init__(self, opened: socket.socket) -> None:
        super().__init__()
        self.socket = opened
        self.is_busy = False
        self.received = b""


class _Http1Loop(Loop[T, _Connection]):
    def __init__(
        self,
        address: tuple[str, int],
        sent: Sequence[bytes],
        due_ns: Sequence[int],
        read: Read[T],
    ) -> None:
        super().__init__(address, len(sent), due_ns)
        self._sent = sent
        self._read = read
        self._fd_to_connection: dict[int, _Connection] = {}

    def open(self, connections: int) -> None:
        for _ in range(connections):
            connection = _Connection(self.opened())
            self._fd_to_connection[connection.socket.fileno()] = connection
            self.free.append(connection)

    def close(self) -> None:
        for connection in self._fd_to_connection.values():
            connection.socket.close()

    def send(self, place: _Connection) -> None:
        place.is_busy = True
        try:
            # A request fits a socket's empty buffer.
            place.socket.sendall(self._sent[place.request])
        except OSError:
            self._end(place, None, time.monotonic_ns())
            self._reopen(place)

    def receive(self, fd: int, at_ns: int) -> None:
        connection = self._fd_to_connection[fd]
        try:
            data = connection.socket.recv(READ_BYTES)
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
        connection.is_busy = False
        connection.received = b""
        self.ended(connection, answer, at_ns)

    def _reopen(self, connection: _Connection) -> None:
        del self._fd_to_connection[connection.socket.fileno()]
        connection.socket.close()  # also removes it from the epoll
        connection.socket = self.opened()
        self._fd_to_connection[connection.socket.fileno()] = connection


def _says_close(answer: bytes) -> bool:
    return b"\r\nconnection: close" in answer[: answer.find(b"\r\n\r\n")].lower()


class _Timer:
    """A timerfd(2) on the clock of `time.monotonic_ns`; Python's since 3.13."""

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
        """Become readable at that time, unless already set to it."""
        if at_ns != self._at_ns:
            self._at_ns = at_ns
            self._spec[2], self._spec[3] = divmod(at_ns, _NS_PER_S)
            self._settime(self.fd, _TFD_TIMER_ABSTIME, self._address, None)

    def clear(self) -> None:
        os.read(self.fd, 8)

    def close(self) -> None:
        os.close(self.fd)
