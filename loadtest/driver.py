"""
The load driver of the bench: cheap, with exact counts.

Each connection sends the next request after the complete answer, like an exchange with keep-alive
connections, without pipelining. The driver shares the measured machine's CPU: requests are bytes
before the clock starts, and an answer costs a search for the end of its header and two fields.

`ask` first sends requests sequentially, for `loadtest.answers` to judge. Under load each answer
must repeat that first answer's status, outcome and length, or have a late outcome, which is
counted. `wrk` sends more and checks less, and may not be installed.
"""

import asyncio
import gzip
import ssl
from collections.abc import Sequence
from typing import NamedTuple

from loadtest.answers import LATE, Answer
from loadtest.traffic import BidRequest

_END_OF_HEADER = b"\r\n\r\n"
_LENGTH = b"content-length:"
_OUTCOME = b"x-enrich-outcome:"
_ENCODING = b"content-encoding:"
ANSWERED_WITHIN_S = 30
_LATE = frozenset(outcome.encode() for outcome in LATE)


class Exchange(NamedTuple):
    """A request as sent, and its expected answer."""

    sent: bytes
    answer: Answer
    received_bytes: int = 0
    """Of the answer, header included."""


class Way(NamedTuple):
    """How requests are sent, and answers wanted."""

    is_folded: bool = False
    """Bodies of requests are compressed with gzip."""
    takes_gzip: bool = False
    """Answers may be."""
    is_tls: bool = False
    """Over TLS; the certificate is not checked."""


PLAIN = Way()


class Wrong(Exception):
    """An answer under load differs from the one before."""


def wire(request: BidRequest, host: str, way: Way = PLAIN) -> bytes:
    """Return a request as HTTP/1.1."""
    body = gzip.compress(request.body, mtime=0) if way.is_folded else request.body
    head = (
        f"POST {request.path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"x-openrtb-version: 2.6\r\nContent-Length: {len(body)}\r\n"
        + "Content-Encoding: gzip\r\n" * way.is_folded
        + "Accept-Encoding: gzip\r\n" * way.takes_gzip
    )
    return head.encode() + b"\r\n" + body


async def ask(
    host: str, port: int, requests: Sequence[BidRequest], way: Way = PLAIN
) -> list[Exchange]:
    """
    Send requests sequentially over a connection; answers are decompressed.

    Raises:
        TimeoutError: An answer did not come.
        asyncio.IncompleteReadError: The server closed the connection.
    """
    reader, writer = await asyncio.open_connection(
        host, port, ssl=_unchecked() if way.is_tls else None
    )
    exchanges = []
    try:
        for request in requests:
            sent = wire(request, f"{host}:{port}", way)
            writer.write(sent)
            async with asyncio.timeout(ANSWERED_WITHIN_S):
                head = await reader.readuntil(_END_OF_HEADER)
                body = await reader.readexactly(int(_field(head, _LENGTH) or 0))
            received_bytes = len(head) + len(body)
            if _field(head, _ENCODING) == b"gzip":
                body = gzip.decompress(body)
            answer = Answer(_status(head), _field(head, _OUTCOME).decode(), body)
            exchanges.append(Exchange(sent, answer, received_bytes))
    finally:
        writer.close()
        await writer.wait_closed()
    return exchanges


async def drive(
    host: str, port: int, exchanges: Sequence[Exchange], *, connections: int, count: int
) -> int:
    """
    Send `count` requests, in parallel on all connections.

    Args:
        host: The server's.
        port: The server's.
        exchanges: Requests to send in turn, with their answers.
        connections: Kept alive; a single request in flight on each.
        count: Answers to wait for in all.

    Returns:
        The number of late answers.

    Raises:
        Wrong: An answer differs in status, outcome or length from the expectation.
        TimeoutError: The answers stopped coming.
    """
    loop = asyncio.get_running_loop()
    load = _Load(exchanges, count, loop.create_future())
    opened = [
        await loop.create_connection(lambda: _Connection(load), host, port)
        for _ in range(connections)
    ]
    for _, connection in opened:
        connection.send_next()
    try:
        answered = -1
        while not load.done.done():
            if answered == load.answered:
                raise TimeoutError(f"no answer for {ANSWERED_WITHIN_S} s")
            answered = load.answered
            await asyncio.wait([load.done], timeout=ANSWERED_WITHIN_S)
        load.done.result()
        return load.late
    finally:
        for transport, _ in opened:
            transport.close()


class _Load:
    __slots__ = ("_exchanges", "_left", "_turn", "answered", "count", "done", "late")

    def __init__(
        self, exchanges: Sequence[Exchange], count: int, done: asyncio.Future[None]
    ) -> None:
        self._exchanges = exchanges
        self._left = count
        self._turn = 0
        self.answered = 0
        self.late = 0
        self.count = count
        self.done = done

    def next(self) -> Exchange | None:
        if not self._left:
            return None
        self._left -= 1
        self._turn += 1
        return self._exchanges[self._turn % len(self._exchanges)]

    def count_answer(self) -> None:
        self.answered += 1
        if self.answered == self.count and not self.done.done():
            self.done.set_result(None)

    def fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(Wrong(why))


class _Connection(asyncio.Protocol):
    __slots__ = ("_expected", "_load", "_received", "_transport")

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._received = b""
        self._expected: Answer | None = None
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # a stream's, by contract

    def connection_lost(self, exc: Exception | None) -> None:
        if self._expected is not None:
            self._load.fail("the server closed a connection with a request in flight")

    def send_next(self) -> None:
        exchange = self._load.next()
        if exchange is None:
            self._expected = None
            return
        self._expected = exchange.answer
        self._transport.write(exchange.sent)

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        if self._expected is None:
            self._received = received
            return
        try:
            late = is_late(received, self._expected)
        except Wrong as wrong:
            self._load.fail(str(wrong))
            return
        if late is None:
            self._received = received
            return
        self._received = b""
        self._load.late += late
        self._load.count_answer()
        self.send_next()


def is_late(received: bytes, expected: Answer) -> bool | None:
    """
    Compare status, outcome and length with the expected answer.

    Returns:
        Whether the answer is late; `None` while it is incomplete.

    Raises:
        Wrong: The answer is neither late nor as expected.
    """
    end = received.find(_END_OF_HEADER)
    if end < 0:
        return None
    head = received[: end + len(_END_OF_HEADER)]
    body_bytes = int(_field(head, _LENGTH) or 0)
    if len(received) < len(head) + body_bytes:
        return None
    outcome = _field(head, _OUTCOME)
    if outcome in _LATE:
        return True
    if (_status(head), outcome.decode(), body_bytes, len(received) - len(head)) != (
        expected.status,
        expected.outcome,
        len(expected.body),
        len(expected.body),
    ):
        raise Wrong(
            f"status {_status(head)}, {outcome.decode()!r}, {body_bytes} bytes, where"
            f" {expected.outcome!r}, {len(expected.body)} bytes, was the answer before"
        )
    return False


def _unchecked() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _status(head: bytes) -> int:
    return int(head[9:12])


def _field(head: bytes, name: bytes) -> bytes:
    """Return the value of a header field, empty if absent."""
    lower = head.lower()
    at = lower.find(b"\r\n" + name)
    if at < 0:
        return b""
    start = at + 2 + len(name)
    return head[start : head.index(b"\r\n", start)].strip()
