"""
A wire between the bid worker and a real store that a test can bend.

Bytes pass through untouched until told otherwise: it can slip in bytes of its
own, hold the store's replies back, cut every connection, or refuse new ones.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Proxy:
    """A port of this machine that leads to a store's."""

    def __init__(self, store_port: int) -> None:
        self._store_port = store_port
        self._clients: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self.is_refusing = False
        self.port = 0

    @property
    def url(self) -> str:
        """The URL of the store, by way of this wire."""
        return f"redis://127.0.0.1:{self.port}/0"

    def say(self, data: bytes) -> None:
        """Tell every client these bytes as if the store had said them."""
        for client in self._clients:
            client.write(data)

    def cut(self) -> None:
        """End every connection."""
        for client in tuple(self._clients):
            client.transport.abort()

    def hold(self) -> None:
        """Keep what the store replies."""
        self._flows.clear()

    def let_go(self) -> None:
        """Pass on what was kept, and what follows."""
        self._flows.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_refusing:
            writer.transport.abort()
            return
        self._clients.add(writer)
        store_reader, store_writer = await asyncio.open_connection("127.0.0.1", self._store_port)
        back = asyncio.create_task(self._pass_on(store_reader, writer, self._flows))
        with suppress(OSError):
            await self._pass_on(reader, store_writer, None)
        back.cancel()
        store_writer.transport.abort()
        self._clients.discard(writer)
        writer.transport.abort()

    @staticmethod
    async def _pass_on(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event | None
    ) -> None:
        while data := await reader.read(65_536):
            if flows is not None:
                await flows.wait()
            writer.write(data)


@asynccontextmanager
async def proxied(store_port: int) -> AsyncIterator[Proxy]:
    """Run a wire to the store on that port."""
    proxy = Proxy(store_port)
    server = await asyncio.start_server(proxy._connected, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.let_go()
        proxy.cut()
