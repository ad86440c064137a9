"""The driver's count is the bench's result, so it must notice what it does not check in full."""

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from loadtest.driver import Exchange, Wrong, ask, drive
from loadtest.population import SEES_ALL
from loadtest.servers import cpu_s, pinned
from loadtest.traffic import BidRequest
from rtb.outcome import Reason

HOST = "127.0.0.1"
HIT = BidRequest(0, SEES_ALL, b'{"id":"1"}', (), Reason.NONE, is_stripped=False)

Reply = Callable[[int], bytes]


def reply(outcome: str = "enriched", body: bytes = b'{"id":"2"}', status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nX-Enrich-Outcome: {outcome}\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def serving(reply_to: Reply) -> AsyncIterator[int]:
    """A server that answers the n-th request of its life with `reply_to(n)`, in small pieces."""
    served = 0
    connections: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        connections.append(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(len(HIT.body))
                served += 1
                answer = reply_to(served)
                for at in range(0, len(answer), 7):
                    writer.write(answer[at : at + 7])
                    await asyncio.sleep(0)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await asyncio.gather(*filter(None, connections))


async def driven(reply_to: Reply, count: int = 200) -> int:
    async with serving(reply_to) as port:
        exchanges: list[Exchange] = await ask(HOST, port, [HIT, HIT])
        return await drive(HOST, port, exchanges, connections=8, count=count)


async def test_every_request_is_sent_once_and_every_answer_awaited() -> None:
    served = []

    def count_and_reply(n: int) -> bytes:
        served.append(n)
        return reply()

    assert await driven(count_and_reply) == 0
    assert len(served) == 2 + 200


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(reply(outcome="no_match"), id="another outcome"),
        pytest.param(reply(status="500 Internal Server Error"), id="another status"),
        pytest.param(reply(body=b'{"id":"22"}'), id="longer"),
        pytest.param(reply(body=b'{"id":2}'), id="shorter"),
        pytest.param(reply() + b"more", id="bytes behind it"),
    ],
)
async def test_one_answer_that_differs_among_many_is_an_error(wrong: bytes) -> None:
    with pytest.raises(Wrong):
        await driven(lambda n: wrong if n == 150 else reply())


async def test_late_answers_are_counted_and_are_no_error() -> None:
    late = await driven(lambda n: reply("out_of_time", b"{}") if n > 2 and n % 10 == 0 else reply())

    assert late == 20


def test_cpu_of_a_process_is_what_getrusage_says() -> None:
    def rusage_s() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    before = rusage_s()
    sum(range(3_000_000))
    measured = cpu_s(os.getpid())
    after = rusage_s()

    assert before < measured
    assert measured == pytest.approx(after, abs=0.005)


def test_pinning_ends_with_its_block() -> None:
    before = os.sched_getaffinity(0)

    with pinned(min(before)):
        assert os.sched_getaffinity(0) == {min(before)}

    assert os.sched_getaffinity(0) == before
