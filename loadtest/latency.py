"""
Latency at a given rate, open loop: requests are sent when they are due, not when
the server has time for them.

A closed loop waits for an answer before it sends the next request, so while a
server is stuck nothing is sent, and the wait of all that should have been sent
is not seen (coordinated omission). Here each request has an intended time, drawn
before the clock starts, and its latency counts from that time: a request that
has to wait for a free connection, or for the driver itself, waits on the
server's account. Gaps are exponential, as those of many senders who know
nothing of each other.

The driver shares its CPU with the store and must not become what is measured:
plain sockets under one epoll, no object per request, a timerfd for the next
intended time (epoll's own timeout counts in milliseconds), and no spinning,
which would take the CPU from the store. When an answer came is read from the
clock as epoll returns. A request costs the driver about what it costs
`loadtest.driver`; the floor, measured at the same rate, says how much of a
latency is the driver's and the kernel's.
"""

import ctypes
import math
import os
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import NamedTuple

from loadtest.driver import ANSWERED_WITHIN_S, Exchange, Wrong, is_late

_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000
_READ_BYTES = 262_144
_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK = 0o4000
_TFD_CLOEXEC = 0o2000000
_TFD_TIMER_ABSTIME = 1
_START_IN_NS = 2_000_000


class Latencies(NamedTuple):
    """What a run came to: milliseconds in rising order, and how many answers were late."""

    ms: list[float]
    late: int

    def percentile(self, percent: float) -> float:
        """Return the least latency that so many percent of the requests did not exceed."""
        return percentile(self.ms, percent)


def percentile(rising: Sequence[float], percent: float) -> float:
    """
    Return a percentile by nearest rank: a value that was measured, none in between.

    Raises:
        ValueError: There is no value, or `percent` is not above 0 and up to 100.
    """
    if not rising or not 0 < percent <= 100:
        raise ValueError(f"percentile {percent} of {len(rising)} values")
    return rising[math.ceil(len(rising) * percent / 100) - 1]


def intended_ns(rate_per_s: float, count: int, rng: Random) -> list[int]:
    """Return when requests are due, in nanoseconds from the start: a Poisson process."""
    mean_ns = _NS_PER_S / rate_per_s
    return [round(at) for at in accumulate(rng.expovariate(1) * mean_ns for _ in range(count))]


def latencies(
    host: str,
    port: int,
    exchanges: Sequence[Exchange],
    *,
    connections: int,
    due_ns: Sequence[int],
) -> Latencies:
    """
    Send requests when they are due, and wait for all answers; blocks the thread.

    Args:
        host: Where the server listens.
        port: Likewise.
        exchanges: What to send in turn, and how it is answered.
        connections: Kept alive; one request in flight on each.
        due_ns: When each request is due, from the start, rising.

    Raises:
        Wrong: An answer differs from the one expected, or a connection was closed.
        TimeoutError: The answers stopped coming.
    """
    run = _Run(host, port, exchanges, connections, due_ns)
    try:
        run.go()
    finally:
        run.close()
    run.taken_ns.sort()
    return Latencies([ns / _NS_PER_MS for ns in run.taken_ns], run.late)


class _Connection:
    """One keep-alive connection, and the request in flight on it."""

    __slots__ = ("due_ns", "exchange", "received", "socket")

    def __init__(self, host: str, port: int, exchange: Exchange) -> None:
        self.socket = socket.create_connection((host, port), ANSWERED_WITHIN_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.due_ns = 0
        self.exchange = exchange


class _Run:
    def __init__(
        self,
        host: str,
        port: int,
        exchanges: Sequence[Exchange],
        connections: int,
        due_ns: Sequence[int],
    ) -> None:
        self.taken_ns: list[int] = []
        self.late = 0
        self._exchanges = exchanges
        self._due_ns = due_ns
        self._timer = _Timer()
        self._epoll = select.epoll()
        self._epoll.register(self._timer.fd, select.EPOLLIN)
        self._fd_to_connection: dict[int, _Connection] = {}
        for _ in range(connections):
            connection = _Connection(host, port, exchanges[0])
            self._fd_to_connection[connection.socket.fileno()] = connection
            self._epoll.register(connection.socket.fileno(), select.EPOLLIN)

    def close(self) -> None:
        self._epoll.close()
        self._timer.close()
        for connection in self._fd_to_connection.values():
            connection.socket.close()

    def go(self) -> None:
        """Run until each request is answered."""
        now_ns, poll = time.monotonic_ns, self._epoll.poll
        timer, taken_ns = self._timer, self.taken_ns
        fd_to_connection = self._fd_to_connection
        start_ns = now_ns() + _START_IN_NS
        due_ns = [start_ns + due for due in self._due_ns]
        free = deque(fd_to_connection.values())
        count, sent = len(due_ns), 0
        while len(taken_ns) < count:
            # What is due and finds no connection waits; its time counts all the same.
            while sent < count and free:
                if due_ns[sent] > now_ns():
                    timer.set(due_ns[sent])
                    break
                self._send(free.popleft(), due_ns[sent], sent)
                sent += 1
            events = poll(ANSWERED_WITHIN_S)
            at_ns = now_ns()
            if not events:
                raise TimeoutError(f"no answer for {ANSWERED_WITHIN_S} s")
            for fd, _ in events:
                if fd == timer.fd:
                    timer.clear()
                    continue
                connection = fd_to_connection[fd]
                if self._is_answered(connection):
                    taken_ns.append(at_ns - connection.due_ns)
                    free.append(connection)

    def _send(self, connection: _Connection, due_ns: int, number: int) -> None:
        connection.due_ns = due_ns
        connection.exchange = self._exchanges[number % len(self._exchanges)]
        # A request is smaller than a socket's empty buffer: one call takes it whole.
        connection.socket.sendall(connection.exchange.sent)

    def _is_answered(self, connection: _Connection) -> bool:
        data = connection.socket.recv(_READ_BYTES)
        if not data:
            raise Wrong("the server closed a connection")
        received = connection.received + data if connection.received else data
        late = is_late(received, connection.exchange.answer)
        if late is None:
            connection.received = received
            return False
        connection.received = b""
        self.late += late
        return True


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
