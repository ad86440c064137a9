"""The link between two regions: late, in order, whole, and silent while it is cut."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from loadtest.regions.slow_link import SlowLink
from loadtest.servers import HOST

DELAY_S = 0.1


@pytest.fixture
async def link() -> AsyncIterator[SlowLink]:
    """A link to a server that sends back what it gets, and hangs up when its client does."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, HOST, 0)
    async with server, SlowLink(server.sockets[0].getsockname()[1], DELAY_S) as link:
        yield link


async def test_answer_takes_a_round_trip_and_is_whole(link: SlowLink) -> None:
    sent = bytes(range(256)) * 4000
    reader, writer = await asyncio.open_connection(HOST, link.port)
    began_s = time.monotonic()
    writer.write(b"-")
    assert await reader.readexactly(1) == b"-"
    assert 2 * DELAY_S <= time.monotonic() - began_s < 20 * DELAY_S

    writer.write(sent)
    writer.write_eof()

    assert await reader.read(-1) == sent
    writer.close()


async def test_bytes_wait_while_it_is_cut(link: SlowLink) -> None:
    reader, writer = await asyncio.open_connection(HOST, link.port)
    writer.write(b"before")
    await reader.readexactly(6)
    with link.cut():
        writer.write(b"meanwhile")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 5 * DELAY_S)
        _, other = await asyncio.open_connection(HOST, link.port)

    assert await reader.readexactly(9) == b"meanwhile"
    for each in (writer, other):
        each.close()
