"""
What our aiohttp ports say of what they can't parse: nothing that was sent.

By raw sockets against the REST doors and against a process's admin port, with an id in
each part of a request.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.engine import open_ledger
from segments.runtime import http_server
from segments.runtime.admin_port import shown
from segments.runtime.http_server import MAX_HEAD_BYTES, MAX_LONG_HEADS
from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.rest import Rest, serving

PLANTED = b"leaker@acme.example"
HASH = b"5f2b6e1f0c7d4a9b8e3c2d1f0a9b8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b"
SECRETS = (PLANTED, HASH, b"127.0.0.1")
UPLOAD = b"PUT /uploads/add/key/name?X-Amz-Signature=%s HTTP/1.1\r\nHost: x\r\n" % HASH
LONG = 16 << 10


@pytest.fixture
async def ledger(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """On SQLite alone: none of this is asked of it."""
    async with open_ledger(settings.ledger_dsn) as opened:
        yield opened


@pytest.fixture
async def rest(settings: Settings, ledger: AsyncEngine, valkey: Engine) -> AsyncIterator[Rest]:
    async with connect(valkey.url, retry=None) as redis:
        await prepare(redis, settings.expected_ids)
        async with serving(settings, ledger, redis) as rest:
            yield rest


@pytest.fixture
async def port(rest: Rest) -> int:
    return int(rest.url.rpartition(":")[2])


@pytest.fixture
async def admin_port() -> AsyncIterator[int]:
    async def reasons() -> list[str]:
        return []

    async with shown("X_PORT", "127.0.0.1", 0, CollectorRegistry(), reasons) as port:
        assert port is not None
        yield port


def status_of(answer: bytes) -> int:
    """Return the status; aiohttp answers what it can't parse by HTTP/1.0."""
    version, status, _ = answer.split(b" ", 2)
    assert version in (b"HTTP/1.1", b"HTTP/1.0"), answer[:100]
    return int(status)


async def said(port: int, *pieces: bytes, is_cut: bool = False) -> bytes:
    """
    Send bytes, each piece when the last was taken; return all that comes back, until nothing more
    does for two seconds: aiohttp may leave a connection open that asked for an upgrade.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if is_cut:
            writer.write_eof()
        answer = b""
        while True:
            try:
                async with asyncio.timeout(2):
                    piece = await reader.read(1 << 16)
            except TimeoutError:
                return answer
            if not piece:
                return answer
            answer += piece
    finally:
        writer.close()


def head(line: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join((line, b"Host: x", *fields, b"", b""))


POST = b"POST /data-subject-requests HTTP/1.1"
CHUNKED = head(POST, b"Transfer-Encoding: chunked", b"Content-Type: application/json")

PLANTS = [
    pytest.param(PLANTED + b" / HTTP/1.1\r\n\r\n", id="method"),
    pytest.param(b"GET /%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % HASH, id="path"),
    pytest.param(b"GET /\x00%s HTTP/1.1\r\n\r\n" % PLANTED, id="target that is none"),
    pytest.param(b"GET / %s\r\n\r\n" % PLANTED, id="version"),
    pytest.param(b"\x16\x03\x01" + PLANTED + b"\r\n\r\n", id="bytes of another protocol"),
    pytest.param(head(b"GET / HTTP/1.1", PLANTED + b" x: y"), id="name of a field"),
    pytest.param(head(b"GET / HTTP/1.1", b"Cookie: \x00" + PLANTED), id="value of a field"),
    pytest.param(head(b"GET / HTTP/1.1", b"Authorization: Bearer " + HASH + b"\x01"), id="token"),
    pytest.param(head(b"GET / HTTP/1.1", PLANTED), id="field without a colon"),
    pytest.param(head(b"GET / HTTP/1.1", b"X: y", b" " + PLANTED + b"\x00"), id="folded"),
    pytest.param(head(POST, b"Content-Length: " + PLANTED), id="length"),
    pytest.param(head(POST, b"Content-Length: 5", b"Content-Length: 6") + PLANTED, id="lengths"),
    pytest.param(head(POST, b"Transfer-Encoding: " + PLANTED) + PLANTED, id="encoding"),
    pytest.param(CHUNKED + PLANTED + b"\r\n", id="size of a chunk"),
    pytest.param(CHUNKED + b"5;" + PLANTED + b"\x00=x\r\nhello\r\n", id="extension of a chunk"),
    pytest.param(CHUNKED + b"5\r\nhello" + PLANTED + b"\r\n0\r\n\r\n", id="chunk"),
    pytest.param(CHUNKED + b"0\r\n" + PLANTED + b"\r\n\r\n", id="trailer"),
    pytest.param(
        UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello" + PLANTED, id="chunk of an upload"
    ),
    pytest.param(
        UPLOAD + b"Content-Length: 5\r\n\r\nabcd\n" + PLANTED + b"\r\n", id="body behind its length"
    ),
    pytest.param(
        UPLOAD + b"Content-Length: 5\r\nConnection: close\r\n\r\nabcd\n" + PLANTED + b"\r\n",
        id="body behind Connection: close",
    ),
    pytest.param(
        head(POST, b"Content-Length: 2", b"Connection: close") + b"{}" + PLANTED,
        id="body of a small request behind Connection: close",
    ),
    pytest.param(head(b"GET / HTTP/1.1", b"X: " + HASH * 400), id="head that is too long"),
    pytest.param(b"GET /" + HASH * 400 + b" HTTP/1.1\r\n\r\n", id="line that is too long"),
    pytest.param(
        head(b"GET / HTTP/1.1", b"Upgrade: h2c", b"Connection: upgrade") + b"\x00" + PLANTED,
        id="bytes behind an upgrade",
    ),
]  # fmt: skip


def assert_unsaid(where: str, text: bytes) -> None:
    for secret in SECRETS:
        assert secret not in text, where
        assert repr(secret)[2:-1].encode() not in text, where


@pytest.mark.parametrize("sent", PLANTS)
@pytest.mark.parametrize("is_cut", [False, True], ids=["and waits", "and hangs up"])
async def test_what_cannot_be_parsed_is_said_nowhere(
    rest: Rest,
    port: int,
    admin_port: int,
    caplog: pytest.LogCaptureFixture,
    sent: bytes,
    is_cut: bool,
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.clear()

    for each in (port, admin_port):
        # One that can be parsed behind it, so that whoever only waits is answered at last.
        close = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = await said(each, sent, b"" if is_cut else close * 40, is_cut=is_cut)
        assert_unsaid("answer", answer)
        assert b"\r\nserver:" not in answer.lower()
    assert_unsaid("log", caplog.text.encode())
    assert_unsaid("metrics", generate_latest(rest.services.metrics.registry))


async def test_what_cannot_be_parsed_is_a_problem_of_ours(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await said(port, b"%s / HTTP/1.1\r\n\r\n" % PLANTED)

    assert status_of(answer) == 400
    assert b"application/problem+json" in answer
    assert b"Connection: close" in answer
    assert "a request that is no HTTP (BadHttpMethod)" in caplog.text


async def test_broken_chunk_is_the_senders_fault(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    chunked = head(b"POST /login HTTP/1.1", b"Transfer-Encoding: chunked")

    answer = await said(port, chunked, b"5\r\nhello" + PLANTED + b"\r\n")

    assert status_of(answer) == 400
    assert "ERROR" not in caplog.text


async def test_no_answer_says_what_software_it_comes_from(port: int, admin_port: int) -> None:
    for each in (port, admin_port):
        for path in (b"/health/live", b"/nowhere", b"/metrics", b"/docs"):
            request = b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path
            assert b"server" not in (await said(each, request)).lower().partition(b"\r\n\r\n")[0]


# ---------------------------------------------------------------- how long a head may be


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET /" + b"x" * LONG + b" HTTP/1.1\r\nHost: x\r\n\r\n", id="line"),
        pytest.param(head(b"GET / HTTP/1.1", b"X: " + b"x" * LONG), id="field"),
        pytest.param(head(b"GET / HTTP/1.1", *[b"X: " + b"x" * 80] * 200), id="many fields"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 4000, id="fields without end"),
        pytest.param(b"GET /" + b"x" * (9 * LONG), id="line without end"),
        pytest.param(head(b"POST /oath?dataSubjectRequest=x HTTP/1.1", b"X: " + b"x" * LONG),
                     id="another method of a pixel's path"),
        pytest.param(head(b"GET /oath/" + b"x" * LONG + b" HTTP/1.1"), id="below a pixel's path"),
    ],
)  # fmt: skip
async def test_head_of_more_than_16_kib_is_431(port: int, admin_port: int, sent: bytes) -> None:
    for each in (port, admin_port):
        answer = await said(each, sent)

        assert status_of(answer) == 431
        assert b"Connection: close" in answer


async def test_head_is_judged_as_it_is_read(port: int) -> None:
    """
    The answer is there before the head is whole, which it never becomes.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\n")
    for _ in range(17):
        writer.write(b"X: " + b"x" * 1019 + b"\r\n")
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")
    writer.close()


async def test_head_of_less_than_16_kib_is_taken(port: int) -> None:
    fields = [b"X-%d: %s" % (n, b"x" * 60) for n in range(220)]

    answer = await said(port, head(b"GET /health/live HTTP/1.1", b"Connection: close", *fields))

    assert status_of(answer) == 200


async def test_head_behind_a_large_body_is_not_taken_for_a_long_one(port: int) -> None:
    first = head(b"POST /dsr HTTP/1.1", b"Content-Length: %d" % (4 * LONG)) + b" " * (4 * LONG)
    second = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    answer = await said(port, first + second)

    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 431" not in answer


@pytest.mark.parametrize("path", [b"/oath?dataSubjectRequest=", b"/submit?dsr="])
async def test_pixel_takes_a_jwt_of_200_000_characters(port: int, path: bytes) -> None:
    """
    It is read, and refused for what it says.
    """
    jwt = b"x" * 200_000

    answer = await said(
        port, b"GET " + path + jwt + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    longer = await said(port, b"GET " + path + jwt + b"x" * 2 * LONG + b" HTTP/1.1\r\n\r\n")

    assert status_of(answer) == 403
    assert status_of(longer) == 431


@asynccontextmanager
async def begun(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Begin a long head, and let it stand."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /oath?dataSubjectRequest=" + b"x" * 3 * LONG)
    await writer.drain()
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_at_most_20_long_heads_are_there_at_once(port: int) -> None:
    async with AsyncExitStack() as stack:
        open_ = [await stack.enter_async_context(begun(port)) for _ in range(MAX_LONG_HEADS + 1)]
        readers = [asyncio.create_task(reader.readline()) for reader, _ in open_]
        done, waiting = await asyncio.wait(readers, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        refused = [task.result() for task in done]
        small = await said(
            port, b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        # One ends: another one has its room.
        turned_away = next(n for n, task in enumerate(readers) if task in done)
        ended = 0 if turned_away else 1
        open_[ended][1].write(b" HTTP/1.1\r\nHost: x\r\n\r\n")
        answered = await readers[ended]
        after = await said(
            port,
            b"GET /submit?dsr="
            + b"x" * 3 * LONG
            + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        for task in waiting:
            task.cancel()

    assert [line[:12] for line in refused] == [b"HTTP/1.1 503"]
    assert status_of(small) == 200
    assert status_of(answered) == 403
    assert status_of(after) == 403


# ---------------------------------------------------------------- faults of ours


async def test_handler_that_fails_is_500_and_its_place_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(_: web.Request) -> web.Response:
        raise ValueError(PLANTED.decode())

    app = web.Application()
    app.router.add_get("/", fail)
    runner = http_server.runner_of(app)
    await runner.setup()
    try:
        port = await http_server.listen(runner, "127.0.0.1", 0)
        answer = await said(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    finally:
        await runner.cleanup()

    assert status_of(answer) == 500
    assert "ValueError at segments.runtime.http_connection:" in caplog.text
    assert_unsaid("log", caplog.text.encode())
    assert_unsaid("answer", answer)
    assert MAX_HEAD_BYTES == LONG
