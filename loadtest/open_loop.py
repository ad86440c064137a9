"""
A load driver whose requests come when they are due, whatever became of those before them.

An exchange does not wait for our last answer before its next user comes by. A driver
that does (a closed loop, as `loadtest.driver`) sends less the slower we are, and never
sees what the requests it did not send would have met: coordinated omission. So

- request `i` is due at `i / rate`, and its latency counts **from then**, not from when
  it was sent: where the driver, its connections or the service are held up, that shows;
- a request takes any connection that is free, and waits for one where none is.

One thread, `select` with its microseconds: the timers of an event loop are as coarse
as what is measured. How late the driver itself sent is reported beside the latencies,
for of a busy machine it may be the driver that is slow.
"""

import gc
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

_ANSWERED_WITHIN_S = 10.0
_RECEIVED_BYTES = 65_536
_START_IN_S = 0.05


class Sample(NamedTuple):
    """What became of one request; times in seconds."""

    request: int  # its place in `sent`
    latency_s: float  # from when it was due until its answer was whole
    held_up_s: float  # from when it was due until it was sent
    answer: bytes  # all of it; empty if none came


class NotAnswered(Exception):
    """The service can't be connected to, or stopped answering."""


def open_loop(
    address: tuple[str, int],
    sent: Sequence[bytes],
    *,
    rate_per_s: float,
    count: int,
    connections: int,
    end_of: Callable[[bytes], int],
) -> list[Sample]:
    """
    Send requests at a constant rate.

    Args:
        address: Host and port of the service.
        sent: Whole requests, sent in turn.
        rate_per_s: How many are due a second.
        count: How many in all.
        connections: Kept alive; one request in flight on each.
        end_of: Says how long the answer is that some bytes begin with, 0 as
            long as that can't be known.

    Returns:
        One sample for each request, in the order in which they ended. A
        connection that ends in the middle of a request ends that one without
        an answer, and is opened anew.

    Raises:
        NotAnswered: See there.
    """
    loop = _Loop(address, sent, rate_per_s, count, end_of)
    collects = gc.isenabled()
    gc.disable()
    try:
        return loop.run(connections)
    finally:
        loop.close()
        if collects:
            gc.enable()


class _Connection:
    __slots__ = ("due_s", "received", "request", "sent_s", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        try:
            self.socket = socket.create_connection(address, _ANSWERED_WITHIN_S)
        except OSError as error:
            raise NotAnswered(f"no connection: {type(error).__name__}") from None
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.request = 0
        self.due_s = self.sent_s = 0.0

    def fileno(self) -> int:
        return self.socket.fileno()


class _Loop:
    def __init__(
        self,
        address: tuple[str, int],
        sent: Sequence[bytes],
        rate_per_s: float,
        count: int,
        end_of: Callable[[bytes], int],
    ) -> None:
        self._address = address
        self._sent = sent
        self._interval_s = 1 / rate_per_s
        self._count = count
        self._end_of = end_of
        self._free: deque[_Connection] = deque()
        self._busy: set[_Connection] = set()
        self._samples: list[Sample] = []

    def run(self, connections: int) -> list[Sample]:
        self._free.extend(_Connection(self._address) for _ in range(connections))
        clock = time.perf_counter
        began_s = clock() + _START_IN_S
        begun = 0
        heard_at_s = began_s
        while len(self._samples) < self._count:
            now_s = clock()
            while begun < self._count and self._free:
                due_s = began_s + begun * self._interval_s
                if due_s > now_s:
                    break
                self._send(begun, due_s)
                begun += 1
            wait_s = _ANSWERED_WITHIN_S
            if begun < self._count and self._free:
                wait_s = max(0.0, began_s + begun * self._interval_s - clock())
            readable, _, _ = select.select(self._busy, (), (), wait_s)
            for connection in readable:
                self._receive(connection, clock())
                heard_at_s = clock()
            if self._busy and clock() - heard_at_s > _ANSWERED_WITHIN_S:
                raise NotAnswered(f"no answer for {_ANSWERED_WITHIN_S:.0f} s")
        return self._samples

    def close(self) -> None:
        for connection in (*self._free, *self._busy):
            connection.socket.close()

    def _send(self, number: int, due_s: float) -> None:
        connection = self._free.popleft()
        connection.request = number % len(self._sent)
        connection.due_s = due_s
        self._busy.add(connection)
        connection.sent_s = time.perf_counter()
        try:
            connection.socket.sendall(self._sent[connection.request])
        except OSError:
            self._end(connection, b"", time.perf_counter())

    def _receive(self, connection: _Connection, now_s: float) -> None:
        try:
            data = connection.socket.recv(_RECEIVED_BYTES)
        except OSError:
            data = b""
        if not data:
            self._end(connection, b"", now_s)
            return
        connection.received += data
        length = self._end_of(connection.received)
        if 0 < length <= len(connection.received):
            self._end(connection, connection.received, now_s)

    def _end(self, connection: _Connection, answer: bytes, now_s: float) -> None:
        self._busy.discard(connection)
        self._samples.append(
            Sample(
                connection.request,
                now_s - connection.due_s,
                connection.sent_s - connection.due_s,
                answer,
            )
        )
        connection.received = b""
        if not answer or _says_close(answer):
            connection.socket.close()
            connection = _Connection(self._address)
        self._free.append(connection)


def _says_close(answer: bytes) -> bool:
    return b"\r\nconnection: close" in answer[: answer.find(b"\r\n\r\n")].lower()
