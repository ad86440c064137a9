"""A client that says exactly the bytes it is told to, and reads answers one by one."""

import asyncio
import gzip
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from ssl import SSLContext
from typing import NamedTuple

ENRICH = "/openrtb2/enrich/dsp-a"
"""The path of the recipient that most tests ask as."""

WITHIN_S = 10
"""How long anything that is awaited may take before the test has failed."""


class Answer(NamedTuple):
    """One answer; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def outcome(self) -> str:
        """What became of the request."""
        return self.headers["x-enrich-outcome"]

    @property
    def error(self) -> str:
        """Why it was refused."""
        return self.headers["x-enrich-error"]

    @property
    def plain(self) -> bytes:
        """The body, inflated."""
        return gzip.decompress(self.body)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Write these bytes."""
        self.writer.write(data)

    async def answer(self) -> Answer:
        """Read the next answer; 100 Continue is one."""
        async with asyncio.timeout(WITHIN_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            status, *lines = head.decode().rstrip().split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines)
            }
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(status.split()[1]), headers, body)

    async def post(self, body: bytes, path: str = ENRICH, **headers: str) -> Answer:
        """Send a request and read its answer."""
        self.send(request(body, path, **headers))
        return await self.answer()

    async def is_closed(self) -> bool:
        """Wait until the server has closed, with nothing more to read."""
        async with asyncio.timeout(WITHIN_S):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True

    def reset(self) -> None:
        """Vanish: no goodbye, and what comes from the server is refused."""
        now = struct.pack("ii", 1, 0)
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
        self.writer.transport.abort()

    async def close(self) -> None:
        """Hang up."""
        self.writer.close()
        with suppress(OSError):  # the server was quicker
            await self.writer.wait_closed()


@asynccontextmanager
async def connected(port: int, tls: SSLContext | None = None) -> AsyncIterator[Client]:
    """Connect to a port of this machine."""
    client = Client(*await asyncio.open_connection("127.0.0.1", port, ssl=tls))
    try:
        yield client
    finally:
        await client.close()


def request(body: bytes, path: str = ENRICH, method: str = "POST", **headers: str) -> bytes:
    """
    Make the bytes of a request.

    Args:
        headers: Names with `_` for `-`.
    """
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
