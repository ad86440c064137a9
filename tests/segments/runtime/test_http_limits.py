"""What a stranger can make one of our aiohttp ports hold, and for how long: by raw sockets."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from segments.runtime import http_server
from segments.runtime.http_limits import Limits
from segments.runtime.http_server import client_is_known
from tests.tls import TestCa

SHORT_S = 0.3
_WITHIN_S = 20
PING = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def serving(limits: Limits, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve a few paths; gives the port."""

    async def ping(_: web.Request) -> web.Response:
        return web.Response(text="pong")

    async def known(request: web.Request) -> web.Response:
        client_is_known(request)
        return web.Response(body=await request.read())

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * (16 << 20))

    app = web.Application()
    app.router.add_get("/ping", ping)
    app.router.add_post("/known", known)
    app.router.add_get("/large", large)
    runner = http_server.runner_of(app, limits=limits)
    await runner.setup()
    try:
        yield await http_server.listen(runner, "127.0.0.1", 0, context)
    finally:
        await runner.cleanup()


@asynccontextmanager
async def line_to(port: int, sent: bytes = b"") -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        yield reader, writer
    finally:
        writer.close()


async def to_the_end(line: Line) -> bytes:
    """Return all that comes until the other side ends the connection."""
    async with asyncio.timeout(_WITHIN_S):
        try:
            return await line[0].read()
        except ConnectionResetError:
            return b""


async def begins(line: Line) -> bytes:
    """Return how an answer begins; nothing, if the connection ends without one."""
    async with asyncio.timeout(_WITHIN_S):
        return (await line[0].readline())[:13]


async def answer_of(line: Line, sent: bytes = PING) -> bytes:
    line[1].write(sent)
    async with asyncio.timeout(_WITHIN_S):
        return await line[0].readuntil(b"\r\n\r\npong")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"GET", b"HTTP/1.1 408 ", id="three bytes"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n", b"HTTP/1.1 408 ", id="half a head"),
        pytest.param(b"\r\n", b"HTTP/1.1 408 ", id="an empty line"),
    ],
)
async def test_head_that_does_not_end_is_waited_for_a_while(sent: bytes, status: bytes) -> None:
    async with serving(Limits(head_within_s=SHORT_S)) as port, line_to(port, sent) as line:
        assert await begins(line) == status


async def test_dripping_bytes_buys_no_time() -> None:
    async with serving(Limits(head_within_s=SHORT_S)) as port, line_to(port) as line:
        reading = asyncio.create_task(line[0].readline())
        for byte in b"GET / HTTP/1.1\r\n" + b"x" * 1000:
            line[1].write(bytes([byte]))
            await asyncio.wait([reading], timeout=SHORT_S / 10)
            if reading.done():
                break
        assert (await reading).startswith(b"HTTP/1.1 408 ")


async def test_head_behind_an_answer_has_the_same_time() -> None:
    async with serving(Limits(head_within_s=SHORT_S)) as port, line_to(port) as line:
        await answer_of(line)
        line[1].write(b"GET /ping HT")

        assert await begins(line) == b"HTTP/1.1 408 "


async def test_client_that_keeps_its_connection_may_be_idle() -> None:
    async with serving(Limits(head_within_s=SHORT_S)) as port, line_to(port) as line:
        await answer_of(line)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4 * SHORT_S):
                await line[0].read(1)

        assert (await answer_of(line)).startswith(b"HTTP/1.1 200 ")


async def test_answer_that_nobody_fetches_is_not_kept() -> None:
    async with serving(Limits(fetch_within_s=SHORT_S)) as port, line_to(port) as line:
        transport = line[1].transport
        transport.pause_reading()  # type: ignore[attr-defined] # a stream's, by contract
        line[1].write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(_WITHIN_S), line_to(port) as other:
            while await _is_open(line):
                await answer_of(other)
        transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await to_the_end(line)) < 16 << 20


async def _is_open(line: Line) -> bool:
    """Tell whether the other side still takes what is written."""
    try:
        line[1].write(b"x")
        await line[1].drain()
    except ConnectionError:
        return False
    return not line[1].is_closing()


async def test_stranger_who_waited_longest_goes_for_a_newcomer() -> None:
    limits = Limits(max_startups=10, max_startups_per_address=3)
    async with serving(limits) as port, AsyncExitStack() as stack:
        first, second, third = [await stack.enter_async_context(line_to(port)) for _ in range(3)]
        for line in (first, second, third):
            await answer_of(line)

        newcomer = await stack.enter_async_context(line_to(port))

        assert (await answer_of(newcomer)).startswith(b"HTTP/1.1 200 ")
        assert await to_the_end(first) == b""
        assert (await answer_of(second)).startswith(b"HTTP/1.1 200 ")


async def test_known_client_does_not_go_for_strangers() -> None:
    limits = Limits(max_startups=3, max_startups_per_address=3)
    upload = b"POST /known HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
    async with serving(limits) as port, AsyncExitStack() as stack:
        known = await stack.enter_async_context(line_to(port, upload))
        strangers = [await stack.enter_async_context(line_to(port)) for _ in range(5)]
        for line in strangers[2:]:
            await answer_of(line)

        assert (await answer_of(known, b"pong")).startswith(b"HTTP/1.1 200 ")


async def test_known_client_is_a_stranger_again_when_it_is_answered() -> None:
    limits = Limits(max_startups=2, max_startups_per_address=2)
    upload = b"POST /known HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\npong"
    async with serving(limits) as port, AsyncExitStack() as stack:
        known = await stack.enter_async_context(line_to(port))
        await answer_of(known, upload)
        for _ in range(2):
            await answer_of(await stack.enter_async_context(line_to(port)))

        assert await to_the_end(known) == b""


@pytest.fixture
def ca(tmp_path: Path) -> TestCa:
    return TestCa.in_folder(tmp_path)


def context_of(ca: TestCa) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca.cert, ca.key)
    return context


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
async def test_tls_that_is_not_agreed_upon_is_waited_for_a_while(ca: TestCa, sent: bytes) -> None:
    async with (
        serving(Limits(head_within_s=SHORT_S), context_of(ca)) as port,
        line_to(port, sent) as line,
    ):
        assert await to_the_end(line) == b""


async def test_client_amid_tls_is_counted(ca: TestCa) -> None:
    limits = Limits(max_startups=3, max_startups_per_address=3)
    async with serving(limits, context_of(ca)) as port, AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(line_to(port)) for _ in range(3)]
        client = await asyncio.open_connection(
            "127.0.0.1", port, ssl=ca.client(), server_hostname="127.0.0.1"
        )

        assert (await answer_of(client)).startswith(b"HTTP/1.1 200 ")
        assert await to_the_end(silent[0]) == b""
        client[1].close()


async def test_port_that_stops_lets_those_go_who_have_not_agreed_upon_tls(ca: TestCa) -> None:
    async with AsyncExitStack() as stack:
        async with serving(Limits(), context_of(ca)) as port:
            silent = await stack.enter_async_context(line_to(port, b"\x16"))
            client = await asyncio.open_connection(
                "127.0.0.1", port, ssl=ca.client(), server_hostname="127.0.0.1"
            )
            await answer_of(client)
            client[1].close()
        assert await to_the_end(silent) == b""
