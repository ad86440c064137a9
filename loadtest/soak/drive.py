"""
A driver of a soak: a process with some connections, which judges every answer.

Each connection sends the next request after the complete answer, and is replaced after an announced
last answer. Any other end counts against the service, unless the worker has just been killed.
"""

import asyncio
import re
import ssl
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import uvloop

from loadtest.answers import Verdict
from loadtest.judge import CLOSE, NO_WAVE, Due, Judge, Phase, end_of
from loadtest.servers import HOST
from loadtest.soak.shared import BROKEN, CALM, Count, Shared, WaveState
from rtb.outcome import Outcome

_ANSWERED_WITHIN_NS = 30 * 1_000_000_000
_LOOK_S = 0.05
_MAX_NOTES = 20

_OF_PROXY = re.compile(rb"(?:Server|Date|Connection): [^\r\n]*\r\n")
"""Fields that nginx adds to each answer; its `Connection: close` included."""


def drive(
    number: int,
    dues: Sequence[Due],
    port: int,
    connections: int,
    shared: Shared,
    notes: Any,
    proxy_ca: Path | None = None,
) -> None:
    """
    Send requests until `shared` ends the soak.

    `notes` is a queue for the first few faults, in words; `proxy_ca` the certificate authority of
    nginx, if that listens on the port, else no TLS.
    """
    tls = None if proxy_ca is None else ssl.create_default_context(cafile=proxy_ca)
    uvloop.run(Driver(number, dues, port, shared, notes, tls).run(connections))


_NO_MATCH, _STORE_DOWN = (
    b"X-Enrich-Outcome: %b\r\n" % outcome.encode()
    for outcome in (Outcome.NO_MATCH, Outcome.STORE_DOWN)
)


class Driver:
    """The connections of a driver."""

    def __init__(
        self,
        number: int,
        dues: Sequence[Due],
        port: int,
        shared: Shared,
        notes: Any,
        proxy_tls: ssl.SSLContext | None = None,
    ) -> None:
        self.dues = dues
        self.proxy_tls = proxy_tls
        """Given: nginx is on the port, and speaks TLS."""
        self.judge = Judge(dues)
        self.counts = shared.of(number)
        self.shared = shared
        self.connections: set[_Connection] = set()
        self._port = port
        self._notes = notes
        self._notes_left = _MAX_NOTES
        self._order = self._endless_order(Random(number))

    def _endless_order(self, rng: Random) -> Iterator[int]:
        order = list(range(len(self.dues)))
        while True:
            rng.shuffle(order)
            yield from order

    async def run(self, connections: int) -> None:
        """Keep the connections busy until the end; wait for the last answers."""
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(self._keep_connected())
            while not self.shared.is_over:
                await asyncio.sleep(_LOOK_S)
                self.counts[Count.IN_FULL] = self.judge.in_full
                self._look_for_unanswered()
            # Requests in flight are still to be judged.
            give_up_at_ns = time.monotonic_ns() + _ANSWERED_WITHIN_NS
            while any(one.is_waiting for one in self.connections):
                if time.monotonic_ns() > give_up_at_ns:
                    break
                await asyncio.sleep(_LOOK_S)
            for one in tuple(self.connections):
                one.hang_up()
        self.counts[Count.IN_FULL] = self.judge.in_full

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.shared.is_over:
            try:
                _, connection = await loop.create_connection(
                    lambda: _Connection(self), HOST, self._port, ssl=self.proxy_tls
                )
            except OSError as error:
                self.wrong(f"no connection: {type(error).__name__}")
                await asyncio.sleep(_LOOK_S)
            else:
                await connection.ended

    def next(self) -> int:
        """Return the number of the next request."""
        return next(self._order)

    def wrong(self, why: str) -> None:
        """Count a fault of the service."""
        self.counts[Count.WRONG] += 1
        if self._notes_left:
            self._notes_left -= 1
            self._notes.put(why)

    def _look_for_unanswered(self) -> None:
        too_old_ns = time.monotonic_ns() - _ANSWERED_WITHIN_NS
        for one in tuple(self.connections):
            if one.is_waiting and one.sent_at_ns < too_old_ns:
                self.wrong("a request was not answered at all")
                one.hang_up()


class _Connection(asyncio.Protocol):
    __slots__ = (
        "_driver", "_n", "_received", "_state", "_transport", "ended", "is_waiting", "sent_at_ns",
    )  # fmt: skip

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._received = b""
        self._n = 0
        self._state = WaveState.BEFORE
        self._transport: asyncio.WriteTransport
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_waiting = False
        self.sent_at_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # a stream's, by contract
        self._driver.connections.add(self)
        self._send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        driver = self._driver
        driver.connections.discard(self)
        if self.is_waiting:
            self.is_waiting = False
            if driver.shared.was_killed(time.monotonic_ns()):
                driver.counts[Count.LOST] += 1
            else:
                driver.wrong("a connection ended with a request in flight")
        self.ended.set_result(None)

    def hang_up(self) -> None:
        self.is_waiting = False
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        driver = self._driver
        received = self._received + data if self._received else data
        # The usual answer: no parsing, no judgement.
        if received == driver.judge.usual[self._n] and self.is_waiting:
            self._received = b""
            counts = driver.counts
            counts[Count.ANSWERED] += 1
            counts[Count.RIGHT] += 1
            self._send_next()
            return
        whole = end_of(received)
        if not self.is_waiting or len(received) > whole > 0:
            self.is_waiting = False
            driver.wrong("bytes came that belong to no answer")
            self.hang_up()
        elif len(received) < whole or not whole:
            self._received = received
        else:
            self._received = b""
            self._take(received)

    def _take(self, answer: bytes) -> None:
        driver = self._driver
        end_of_head = answer.index(b"\r\n\r\n") + 2
        is_last = CLOSE in answer[:end_of_head]
        if driver.proxy_tls is not None:
            answer = _OF_PROXY.sub(b"", answer[:end_of_head]) + answer[end_of_head:]
        elif is_last:
            answer = answer.replace(CLOSE, b"", 1)
        driver.counts[Count.ANSWERED] += 1
        if driver.shared.is_emptied:
            # Until its next probe a worker asks for persons who are gone.
            answer = answer.replace(_NO_MATCH, _STORE_DOWN, 1)
        verdict, why = driver.judge.judge(self._n, answer, self._phase())
        if verdict is Verdict.RIGHT:
            driver.counts[Count.RIGHT] += 1
        elif verdict is Verdict.LATE:
            was_broken = driver.shared.was_broken(self.sent_at_ns)
            driver.counts[(BROKEN if was_broken else CALM)[why]] += 1
        else:
            driver.wrong(why)
        if is_last:
            driver.counts[Count.ENDED_POLITELY] += 1
            self.is_waiting = False
            self._transport.close()
        else:
            self._send_next()

    def _phase(self) -> Phase:
        wave = self._driver.dues[self._n].wave
        if wave == NO_WAVE or self._driver.shared.waves[wave] == WaveState.BEFORE:
            return Phase.BEFORE
        return Phase.AFTER if self._state == WaveState.OVER else Phase.DURING

    def _send_next(self) -> None:
        driver = self._driver
        if driver.shared.is_over:
            self.is_waiting = False
            self._transport.close()
            return
        self._n = n = driver.next()
        due = driver.dues[n]
        if due.wave != NO_WAVE:
            self._state = driver.shared.waves[due.wave]
        self.is_waiting = True
        self.sent_at_ns = time.monotonic_ns()
        self._transport.write(due.sent)
