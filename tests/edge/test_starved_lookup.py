"""
A lookup in a process that gets no processor for a while, as on a crowded host or in a paused one.

The store's reply then lies in the socket, and no time without the processor is the store's silence.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Any, cast

import pytest
from redis.asyncio import Redis

from rtb.lookup.awake_timeout import AwakeTimeout
from rtb.lookup.lookup import Lookup, LookupOptions
from tests.edge.client import WITHIN_S
from tests.edge.small_store import eventually, furnish
from tests.edge.test_lookup import MEMBER_ID, MEMBER_RECORD
from tests.engines import Engine

if TYPE_CHECKING:
    from rtb.lookup.link import Found, LookupFault

LIMIT_S = 0.1
STARVED_S = 3 * LIMIT_S


class Starving:
    """A connection's protocol and transport; after a write, the process may stand still."""

    def __init__(self, link: Any) -> None:
        self._link = link
        self._transport: Any
        self.next_write_starves = False
        self.starved = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._link.connection_made(self)

    def write(self, data: bytes) -> None:
        self._transport.write(data)
        if self.next_write_starves:
            self.next_write_starves = False
            time.sleep(STARVED_S)
            self.starved.set()

    def abort(self) -> None:
        self._transport.abort()


class Starved:
    """A lookup, and its first connection."""

    def __init__(self, path: str, **options: Any) -> None:
        self._path = path
        self.connections: list[Starving] = []
        self.lookup = Lookup(
            self._dial, LookupOptions((), Random(1), lambda _: None, lambda _: None, **options)
        )

    async def _dial(self, new_link: Callable[[], asyncio.Protocol]) -> None:
        connection = Starving(new_link())
        self.connections.append(connection)
        await asyncio.get_running_loop().create_unix_connection(
            lambda: cast("asyncio.Protocol", connection), self._path
        )

    def ask(self) -> "asyncio.Future[Found | LookupFault]":
        answer: asyncio.Future[Found | LookupFault] = asyncio.get_running_loop().create_future()
        self.lookup.ask((MEMBER_ID,), answer.set_result)
        return answer


@asynccontextmanager
async def starved(engine: Engine, **options: Any) -> AsyncIterator[Starved]:
    it = Starved(f"{engine.dir}/s.sock", **options)
    running = asyncio.create_task(it.lookup.run())
    try:
        await eventually(lambda: it.lookup.fault is None)
        yield it
    finally:
        running.cancel()
        await asyncio.wait([running])


@pytest.fixture
async def furnished(redis_client: Redis) -> None:
    await furnish(redis_client)


@pytest.mark.usefixtures("furnished")
async def test_store_whose_reply_is_not_read_yet_is_not_silent(engine: Engine) -> None:
    async with starved(engine, silent_after_s=LIMIT_S, probe_s=60) as it:
        it.connections[0].next_write_starves = True
        first = it.ask()
        it.lookup.flush()
        it.lookup.note_late()  # by a timer, before the loop reads
        second = it.ask()

        assert await first == await second == [MEMBER_RECORD]
        assert await it.ask() == [MEMBER_RECORD]


@pytest.mark.usefixtures("furnished")
async def test_probe_whose_reply_is_not_read_yet_does_not_end_the_link(engine: Engine) -> None:
    async with starved(engine, probe_s=LIMIT_S) as it:
        [connection] = it.connections
        connection.next_write_starves = True
        async with asyncio.timeout(WITHIN_S):
            await connection.starved.wait()
            for _ in range(3):
                assert await it.ask() == [MEMBER_RECORD]

        assert it.connections == [connection]
        assert it.lookup.fault is None


async def test_time_of_a_loop_that_stands_still_does_not_count() -> None:
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def stand_still() -> None:
        time.sleep(STARVED_S)
        answer.set_result("there")

    async with AwakeTimeout(LIMIT_S):
        asyncio.get_running_loop().call_soon(stand_still)
        said = await answer

    assert said == "there"


async def test_loop_that_runs_ends_the_wait_in_time() -> None:
    began_s = time.monotonic()
    with pytest.raises(TimeoutError):
        async with AwakeTimeout(LIMIT_S):
            await asyncio.Event().wait()

    assert time.monotonic() - began_s >= LIMIT_S


async def test_loop_that_is_always_late_ends_the_wait_too() -> None:
    is_over = asyncio.Event()

    def be_slow() -> None:
        if not is_over.is_set():
            time.sleep(LIMIT_S / 2)
            asyncio.get_running_loop().call_soon(be_slow)

    be_slow()
    began_s = time.monotonic()
    with pytest.raises(TimeoutError):
        async with AwakeTimeout(LIMIT_S):
            await asyncio.Event().wait()
    is_over.set()

    assert time.monotonic() - began_s < 10 * LIMIT_S
