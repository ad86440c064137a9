"""A client of HTTP/2 that says what it is told to, by the package h2; reads answers by stream."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from ssl import SSLContext
from typing import Any

from h2.config import H2Configuration
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes, Settings

from rtb.server.http2.hyper import FarewellConnection
from rtb.server.http2.session import NewSession
from tests.edge.client import ENRICH, WITHIN_S, Answer
from tests.edge.small_store import Service, serving
from tests.engines import Engine

Fields = list[tuple[bytes, bytes]]


class Gone(Exception):
    """The stream was reset, or the connection ended, before the answer."""


class Exchange:
    """What came on one stream."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.trailers: dict[str, str] = {}
        self.body = b""
        self.is_ended = False
        self.reset_code: int | None = None
        self.informed: list[str] = []

    @property
    def answer(self) -> Answer:
        """The whole of it."""
        return Answer(int(self.fields[":status"]), self.fields, self.body)


class Http2Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.h2 = FarewellConnection(
            H2Configuration(
                client_side=True,
                header_encoding="utf-8",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.exchanges: dict[int, Exchange] = {}
        self.goaways: list[tuple[int, int]] = []
        """Number of the last stream and error code of each GOAWAY."""
        self.is_over = False
        self.fetches = True
        """Whether what is read opens the windows again."""

    def begin(self, settings: dict[SettingCodes, int] | None = None) -> None:
        """Say the preface."""
        if settings:
            self.h2.local_settings = Settings(client=True, initial_values=settings)
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Write what h2 has to say."""
        self.writer.write(self.h2.data_to_send())

    def send_head(
        self,
        path: str = ENRICH,
        *,
        method: str = "POST",
        ends: bool = False,
        extra: Iterable[tuple[str, str]] = (),
        **headers: str,
    ) -> int:
        """Send a head, `_` for `-` in names, `extra` as it is; returns the stream's number."""
        stream_id = self.h2.get_next_available_stream_id()
        self.exchanges[stream_id] = Exchange()
        fields = {
            ":method": method,
            ":path": path,
            ":scheme": "http",
            ":authority": "localhost",
            "content-type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        self.h2.send_headers(
            stream_id,
            [*((name, value) for name, value in fields.items() if value), *extra],
            end_stream=ends,
        )
        return stream_id

    def send_body(self, stream_id: int, body: bytes, *, ends: bool = True) -> None:
        """Send a body, or a part of it, as far as the windows let it."""
        size = self.h2.max_outbound_frame_size
        parts = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
        for n, part in enumerate(parts, 1):
            self.h2.send_data(stream_id, part, end_stream=ends and n == len(parts))

    def ask(self, body: bytes, path: str = ENRICH, **headers: str) -> int:
        """Send a whole request; returns the stream's number."""
        stream_id = self.send_head(path, ends=False, extra=(), **headers)
        self.send_body(stream_id, body)
        self.flush()
        return stream_id

    async def answer(self, stream_id: int) -> Answer:
        """
        Read until a stream's answer is whole.

        Raises:
            Gone: It never will be.
        """
        exchange = self.exchanges[stream_id]
        await self.until(lambda: exchange.is_ended or exchange.reset_code is not None)
        if not exchange.is_ended:
            raise Gone(exchange.reset_code)
        return exchange.answer

    async def post(self, body: bytes, path: str = ENRICH, **headers: str) -> Answer:
        """Send a request and read its answer."""
        return await self.answer(self.ask(body, path, **headers))

    async def until(self, claim: Callable[[], bool]) -> None:
        """
        Read until a claim holds.

        Raises:
            Gone: The connection ended before.
        """
        async with asyncio.timeout(WITHIN_S):
            while not claim():
                if self.is_over:
                    raise Gone
                await self._read()

    async def is_closed(self) -> bool:
        """Wait until the server has closed."""
        async with asyncio.timeout(WITHIN_S):
            while not self.is_over:
                await self._read()
        return True

    async def _read(self) -> None:
        try:
            data = await self.reader.read(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            self.is_over = True
            return
        for event in self.h2.receive_data(data):
            self._take(event)
        self.flush()

    def _take(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self.goaways.append((event.last_stream_id or 0, int(event.error_code or 0)))
            return
        exchange = self.exchanges.get(getattr(event, "stream_id", 0) or 0)
        if exchange is None:
            return
        match event:
            case InformationalResponseReceived():
                exchange.informed.append(dict(_text(event.headers))[":status"])
            case ResponseReceived():
                exchange.fields = dict(_text(event.headers))
            case TrailersReceived():
                exchange.trailers = dict(_text(event.headers))
            case DataReceived():
                exchange.body += event.data
                if self.fetches and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case StreamEnded():
                exchange.is_ended = True
            case StreamReset():
                exchange.reset_code = int(event.error_code)
            case _:
                pass


def _text(headers: object) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in headers]  # type: ignore[attr-defined]


@asynccontextmanager
async def serving_by(
    new_session: NewSession, valkey: Engine, **settings: Any
) -> AsyncIterator[Service]:
    """Run a worker that speaks HTTP/2 by one of the engines."""
    async with serving(valkey.url, **settings) as service:
        service.worker.http2.new_session = new_session
        yield service


@asynccontextmanager
async def connected2(
    port: int,
    tls: SSLContext | None = None,
    settings: dict[SettingCodes, int] | None = None,
) -> AsyncIterator[Http2Client]:
    """Connect to a port of this machine, and say the preface."""
    client = Http2Client(*await asyncio.open_connection("127.0.0.1", port, ssl=tls))
    client.begin(settings)
    try:
        yield client
    finally:
        client.writer.close()
        with suppress(OSError):  # the server was quicker
            await client.writer.wait_closed()
