"""Bodies that are read into memory: their size, their time, and how many there are at once."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from io import BytesIO

import pytest
from aiohttp import web

from segments.doors.rest.bodies import (
    MAX_BYTES,
    OF_ONE_ACCOUNT,
    SMALL_BYTES,
    STRANGERS_AT_ONCE,
    WITHIN_S,
    Bodies,
    Body,
    Sender,
)
from segments.doors.rest.problem import Problem, problem_document
from segments.runtime import http_server
from tests.ledger_seed import Seeded
from tests.rest import Rest

SHORT_S = 0.2
LONG = 2 * SMALL_BYTES
_WITHIN_S = 20

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Reading:
    """A port that reads bodies; `/7` of whoever is account 7, `/` of a stranger."""

    def __init__(self, within_s: float = WITHIN_S) -> None:
        self.bodies = Bodies(within_s)
        self.port = 0
        self.was_read = asyncio.Semaphore(0)
        self.go_on = asyncio.Event()  # what was read is kept until then

    async def read(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        sender = Sender(int(name)) if name else None
        try:
            async with Body(request, self.bodies, MAX_BYTES, sender) as body:
                size_bytes = len(await body.read())
                self.was_read.release()
                await self.go_on.wait()
        except Problem as problem:
            return problem_document(problem)
        return web.Response(text=str(size_bytes))


@asynccontextmanager
async def reading(within_s: float = WITHIN_S) -> AsyncIterator[Reading]:
    made = Reading(within_s)
    app = web.Application(client_max_size=1)
    app.router.add_post("/{name:.*}", made.read)
    runner = http_server.runner_of(app, lingering_time=0.1)
    await runner.setup()
    try:
        made.port = await http_server.listen(runner, "127.0.0.1", 0)
        yield made
    finally:
        made.go_on.set()
        await runner.cleanup()


@asynccontextmanager
async def posting(
    port: int, path: str, sent: bytes, *, announced: int | None = None
) -> AsyncIterator[Line]:
    """Send the head of a request and some of its body; chunked if no length is announced."""
    length = "Transfer-Encoding: chunked" if announced is None else f"Content-Length: {announced}"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{length}\r\n\r\n"
    if announced is None:
        sent = b"%x\r\n%b\r\n" % (len(sent), sent)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + sent)
    try:
        yield reader, writer
    finally:
        writer.close()


async def status_of(line: Line) -> int:
    async with asyncio.timeout(_WITHIN_S):
        return int((await line[0].readline()).split()[1])


@pytest.mark.parametrize("announced", [None, 1000])
async def test_body_that_does_not_end_is_408(announced: int | None) -> None:
    async with (
        reading(SHORT_S) as made,
        posting(made.port, "/", b"{", announced=announced) as line,
    ):
        assert await status_of(line) == 408


async def test_dripping_bytes_buys_a_body_no_time() -> None:
    async with reading(SHORT_S) as made, posting(made.port, "/7", b"{", announced=1000) as line:
        answer = asyncio.create_task(line[0].readline())
        while not answer.done():
            line[1].write(b" ")
            await asyncio.wait([answer], timeout=SHORT_S / 10)

        assert b" 408 " in answer.result()


async def test_stranger_has_room_for_twenty_long_bodies() -> None:
    async with reading() as made, AsyncExitStack() as stack:
        for _ in range(STRANGERS_AT_ONCE):
            body = b"x" * LONG
            await stack.enter_async_context(posting(made.port, "/", body, announced=LONG))
            await made.was_read.acquire()

        one_more = await stack.enter_async_context(posting(made.port, "/", b"x" * LONG))
        assert await status_of(one_more) == 503
        small = await stack.enter_async_context(posting(made.port, "/", b"x", announced=1))
        known = await stack.enter_async_context(
            posting(made.port, "/7", b"x" * LONG, announced=LONG)
        )
        made.go_on.set()

        assert await status_of(small) == 200
        assert await status_of(known) == 200


async def test_room_of_a_body_that_broke_off_is_free_again() -> None:
    async with reading(SHORT_S) as made:
        made.go_on.set()
        for _ in range(STRANGERS_AT_ONCE + 2):
            async with posting(made.port, "/", b"x" * LONG):
                pass
        async with posting(made.port, "/", b"x" * LONG, announced=LONG) as line:
            assert await status_of(line) == 200


async def test_account_waits_for_its_own_long_bodies_and_not_for_others() -> None:
    async with reading() as made, AsyncExitStack() as stack:
        lines = [
            await stack.enter_async_context(posting(made.port, "/7", b"x" * LONG, announced=LONG))
            for _ in range(OF_ONE_ACCOUNT + 1)
        ]
        for _ in range(OF_ONE_ACCOUNT):
            await made.was_read.acquire()
        other = await stack.enter_async_context(
            posting(made.port, "/8", b"x" * LONG, announced=LONG)
        )
        await made.was_read.acquire()  # beside those that are kept
        made.go_on.set()

        assert await status_of(other) == 200
        assert [await status_of(line) for line in lines] == [200] * (OF_ONE_ACCOUNT + 1)


@pytest.mark.parametrize(
    ("path", "most"),
    [
        pytest.param("/login", SMALL_BYTES, id="login"),
        pytest.param("/login/refresh", SMALL_BYTES, id="refresh"),
        pytest.param("/account/login", SMALL_BYTES, id="another door's login"),
        pytest.param("/dsr", 204_096, id="signed request"),
    ],
)
async def test_stranger_may_say_little(rest: Rest, path: str, most: int) -> None:
    headers = {"Content-Type": "application/json"}
    read = await rest.ask("POST", path, data=b" " * most, headers=headers)
    larger = await rest.ask("POST", path, data=b" " * (most + 1), headers=headers)

    assert (read.status, larger.status) == (400, 413)


async def test_body_that_breaks_off_is_no_fault_of_ours(
    rest: Rest, caplog: pytest.LogCaptureFixture
) -> None:
    port = int(rest.url.rpartition(":")[2])
    async with posting(port, "/login", b"{", announced=100) as line:
        await rest.ask("GET", "/health/live")
        line[1].transport.abort()
    registry, which = rest.services.metrics.registry, {"door": "Login", "operation": "login"}
    async with asyncio.timeout(_WITHIN_S):
        while not registry.get_sample_value(
            "segments_api_requests_total", {**which, "status": "4xx"}
        ):
            await rest.ask("GET", "/health/live")

    assert "ERROR" not in caplog.text


async def test_known_caller_may_say_a_mebibyte(rest: Rest, seeded: Seeded) -> None:
    form = {"filename": "add.sha2.txt", "action": "add", "type": "sha2"}
    said = json.dumps(form).encode()
    headers = {"Content-Type": "application/json"}
    async with rest.acting_for(seeded.shop) as shop:
        path = "/audience/upload/123"
        read = await shop.ask("POST", path, data=BytesIO(said.ljust(MAX_BYTES)), headers=headers)
        more = BytesIO(said.ljust(MAX_BYTES + 1))
        larger = await shop.ask("POST", path, data=more, headers=headers)

    assert (read.status, larger.status) == (200, 413)
