"""
A client connection of our aiohttp ports: limits on its bytes and its time.

aiohttp has hooks for little of this, so `Connection` overrides methods of its `RequestHandler`, and
reads four private attributes: `_messages`, `_request_count`, `_current_request`, `_paused`.
`tests/segments/runtime/test_http_server.py` and `test_http_limits.py` check another aiohttp.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict

from segments.runtime.addresses import source_of
from segments.runtime.bug_place import bug_place
from segments.runtime.http_limits import Limits
from segments.runtime.http_refusals import (
    MAX_HEAD_BYTES,
    MAX_LONG_HEADS,
    raw_refusal,
    refusal,
)
from segments.runtime.startups import Startups

_log = logging.getLogger(__name__)

_PIECE_BYTES = 16 << 10
"""Parsed at a time. A head that begins within a piece is counted from the next piece on."""

_LINGER_S = 2.0
"""For a refused client to send on, and read the reason."""

_SWEEP_EVERY_S = 0.5
_LOG_EVERY_S = 1.0


class Stranger:
    """A connection of an unknown client."""

    def leave(self) -> None:
        """End the connection without an answer."""
        raise NotImplementedError


class Server(web.Server):
    """The shared state of a port's connections."""

    def __init__(
        self,
        made: web.Server,
        long_heads: Mapping[str, int],
        limits: Limits,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(self._answer, request_factory=self._request, **options)
        self._made = made
        self._options = options
        self._start_to_bytes = {
            b"GET %s?" % path.encode(): size_bytes for path, size_bytes in long_heads.items()
        }
        self.start_bytes = max(map(len, self._start_to_bytes), default=0)
        """The length of a head's start that decides its limit."""
        self.limits = limits
        self._startups: Startups[Stranger] = Startups(
            limits.max_startups, limits.max_startups_per_address
        )
        self.open: set[Connection] = set()
        self._long_heads: set[RequestHandler] = set()
        self._logged_at_s = 0.0
        self._unlogged = 0
        self._sweeping = self._loop.call_later(_SWEEP_EVERY_S, self._sweep)

    def __call__(self) -> RequestHandler:
        """Return a client's protocol."""
        return Connection(self, loop=asyncio.get_running_loop(), **self._options)

    def pre_shutdown(self) -> None:
        """Begin to shut down."""
        self._sweeping.cancel()
        super().pre_shutdown()

    def limit_of(self, start: bytes) -> int:
        """Return the limit of a head with this start."""
        for allowed, size_bytes in self._start_to_bytes.items():
            if start.startswith(allowed):
                return size_bytes
        return MAX_HEAD_BYTES

    def admit(self, connection: RequestHandler) -> bool:
        """Note a connection's long head; tell whether there was room."""
        if len(self._long_heads) >= MAX_LONG_HEADS and connection not in self._long_heads:
            return False
        self._long_heads.add(connection)
        return True

    def let_go(self, connection: RequestHandler) -> None:
        """Forget a connection's long head."""
        self._long_heads.discard(connection)

    def meet(self, stranger: Stranger, address: str) -> None:
        """Count a stranger; end the longest waiting of too many."""
        is_proxy = self.limits.proxies.trusts(address)
        for oldest in self._startups.begin(stranger, source_of(address), is_shared=is_proxy):
            self.note("more clients than may be without a login")
            oldest.leave()

    def is_met(self, stranger: Stranger) -> None:
        """Stop counting a stranger."""
        self._startups.end(stranger)

    def note(self, what: str) -> None:
        """Log a fault by its name, at most once a second."""
        now_s = time.monotonic()
        if now_s - self._logged_at_s < _LOG_EVERY_S:
            self._unlogged += 1
            return
        more = f", and {self._unlogged} more" if self._unlogged else ""
        _log.warning("%s%s", what, more)
        self._logged_at_s, self._unlogged = now_s, 0

    def _sweep(self) -> None:
        now_s = self._loop.time()
        for connection in tuple(self.open):
            connection.check(now_s)
        self._sweeping = self._loop.call_later(_SWEEP_EVERY_S, self._sweep)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        size_bytes = _head_bytes(request)
        if size_bytes <= MAX_HEAD_BYTES:
            return await self._made.request_handler(request)
        try:
            if size_bytes > self.limit_of(_start(request)):
                return refusal(431)
            if not self.admit(request.protocol):
                return refusal(503)
            return await self._made.request_handler(request)
        finally:
            self.let_go(request.protocol)

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        ours = _Writer(protocol, asyncio.get_running_loop())
        return self._made.request_factory(message, payload, protocol, ours, task)


class Connection(RequestHandler, Stranger):
    """A client's connection."""

    def __init__(self, server: Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        self._line: asyncio.Transport | None = None  # also while it closes
        self._address = ""
        self._payload: StreamReader | None = None  # of the last request with a complete head
        self._start = b""  # of the head that is being read
        self._so_far_bytes = 0
        self._is_refused = False
        self._is_known = False
        self._head_since_s = self._loop.time()
        self._choked_since_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the client as a stranger."""
        super().connection_made(transport)
        self._line = self.transport
        self._address = str((transport.get_extra_info("peername") or ("",))[0])
        self._server.open.add(self)
        self._server.meet(self, self._address)

    def data_received(self, data: bytes) -> None:
        """Take bytes piece by piece, and check the length of their head."""
        if not data:  # from aiohttp itself: continue with buffered body bytes
            super().data_received(data)
        for at in range(0, len(data), _PIECE_BYTES):
            if not self._is_refused:
                self._take(data[at : at + _PIECE_BYTES])

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the client."""
        self._line = None
        self._server.open.discard(self)
        self._server.is_met(self)
        self._server.let_go(self)
        super().connection_lost(exc)

    def client_is_known(self) -> None:
        """Note that the current request has identified its client."""
        self._is_known = True
        self._server.is_met(self)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write an answer; the next request identifies its client anew."""
        finished = await super().finish_response(request, resp, start_time)
        if self._is_known and self._line is not None:
            self._server.meet(self, self._address)
        self._is_known = False
        return finished

    def leave(self) -> None:
        """End the connection without an answer."""
        if self._line is not None:
            self._line.abort()

    def check(self, now_s: float) -> None:
        """End the connection if its time is up."""
        limits, line = self._server.limits, self._line
        if line is None:
            return
        if not (self._paused or line.is_closing()):
            self._choked_since_s = None
        elif self._choked_since_s is None:
            self._choked_since_s = now_s
        elif now_s - self._choked_since_s > limits.fetch_within_s:
            line.abort()
            return
        if self._is_waited_for() and now_s - self._head_since_s > limits.head_within_s:
            if self._so_far_bytes:
                self._refuse(408)
            else:
                self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that could not be parsed or handled, without quoting it."""
        if isinstance(exc, HttpProcessingError):
            status = 431 if isinstance(exc, LineTooLong) else 400
            self._server.note(f"a request that is no HTTP ({type(exc).__name__})")
        elif exc is not None:
            _log.error("%s", bug_place(exc))
        if request.writer.output_size > 0:
            raise ConnectionError("half an answer was sent")
        return refusal(status)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log an error's type and place; its message may quote a client."""
        exc = kw.get("exc_info")
        self._server.note(
            bug_place(exc) if isinstance(exc, BaseException) else "a fault in an answer"
        )

    def log_debug(self, *args: Any, **kw: Any) -> None:
        """Log nothing: aiohttp's debug lines quote clients."""

    def _take(self, piece: bytes) -> None:
        count, is_in_head = self._request_count, self._is_in_head()
        if is_in_head:
            if not self._so_far_bytes:
                self._head_since_s = self._loop.time()
            self._so_far_bytes += len(piece)
            self._start += piece[: self._server.start_bytes - len(self._start)]
        super().data_received(piece)
        if self._request_count != count:
            self._so_far_bytes, self._start = 0, b""
            if self._messages:
                self._payload = self._messages[-1][1]
        elif is_in_head and self._so_far_bytes > MAX_HEAD_BYTES:
            if self._so_far_bytes > self._server.limit_of(self._start):
                self._refuse(431)
            elif not self._server.admit(self):
                self._refuse(503)

    def _is_in_head(self) -> bool:
        is_in_body = self._payload is not None and not self._payload.is_eof()
        return not is_in_body and not self._upgraded

    def _is_waited_for(self) -> bool:
        """Tell whether the client has begun a head, or never sent a request."""
        if self._is_refused or self._current_request is not None or self._messages:
            return False
        return self._so_far_bytes > 0 or self._request_count == 0

    def _refuse(self, status: int) -> None:
        """Answer an incomplete head, unless an earlier answer is due first."""
        self._is_refused = True
        self._server.let_go(self)
        if self._current_request is not None or self._messages or self.transport is None:
            self.close()
            return
        self.transport.write(raw_refusal(status))
        asyncio.get_running_loop().call_later(_LINGER_S, self.force_close)


class _Writer(StreamWriter):
    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        headers.popall(hdrs.SERVER, None)
        await super().write_headers(status_line, headers)


def _head_bytes(request: web.BaseRequest) -> int:
    first_line = len(request.method) + len(request.raw_path) + 12
    return first_line + sum(len(name) + len(value) + 4 for name, value in request.raw_headers)


def _start(request: web.BaseRequest) -> bytes:
    return f"{request.method} {request.raw_path}".encode(errors="replace")
