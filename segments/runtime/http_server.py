"""
How our aiohttp ports speak HTTP: the one place for all of them.

Bytes that are no HTTP are still somebody's: bearer tokens, cookies, hashes, JWTs,
lines of a file. aiohttp quotes them in its answers, and logs them together with the
client's address. On our ports nothing that a client sent, and no address, reaches an
answer or a log that way:

    bytes that are no HTTP                 400, in words of ours
    a head of more than `MAX_HEAD_BYTES`   431, as soon as so much of it is there
    a handler that fails                   500; the type and the place of the error are logged
    any answer                             without `Server`, and without an access log

A path may be given leave to have a longer head: a pixel carries a signed request in
its URL. Of such heads there may be `MAX_LONG_HEADS` at a time, each from the byte
that makes it long until it is answered; one more is 503.

aiohttp has no hook for most of this, so `_Connection` overrides methods of its
`RequestHandler`, and reads three of its private attributes: `_messages`,
`_request_count`, `_current_request`. `tests/segments/runtime/test_http_server.py` tells whether
another aiohttp still keeps the law.
"""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict

from segments.runtime.bug_place import bug_place

_log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 16 << 10
"""Of the head of a request: its first line and its fields."""

MAX_LONG_HEADS = 20
"""At a time, in one process: 4 MiB of heads."""

_PIECE_BYTES = 16 << 10
"""What is parsed at a time. A head that begins within a piece is counted from the next one on."""

_LINGER_S = 2.0
"""How long a client that was refused may go on sending, so that it can read why."""

_LOG_EVERY_S = 1.0


def runner_of(
    app: web.Application, *, long_heads: Mapping[str, int] | None = None, **options: Any
) -> web.AppRunner:
    """
    Make what runs an application by the law of this module.

    Args:
        app: What answers.
        long_heads: Paths of `GET` that may have a longer head, and of how many bytes.
        options: Of `aiohttp.web.AppRunner`.
    """
    return _Runner(app, long_heads or {}, options)


class _Runner(web.AppRunner):
    __slots__ = ("_long_heads", "_options")

    def __init__(
        self, app: web.Application, long_heads: Mapping[str, int], options: Mapping[str, Any]
    ) -> None:
        most = max(long_heads.values(), default=MAX_HEAD_BYTES)
        self._long_heads = long_heads
        # Bytes are counted here; aiohttp's own limits are only to be out of the way.
        self._options = {
            **options,
            "access_log": None,
            "max_line_size": most,
            "max_field_size": MAX_HEAD_BYTES,
            "max_headers": MAX_HEAD_BYTES,
        }
        super().__init__(app, **self._options)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        shutdown = ("handle_signals", "shutdown_timeout")
        options = {name: self._options[name] for name in self._options if name not in shutdown}
        return _Server(made, self._long_heads, options)


class _Server(web.Server):
    """What the connections of one port share."""

    def __init__(
        self, made: web.Server, long_heads: Mapping[str, int], options: Mapping[str, Any]
    ) -> None:
        super().__init__(self._answer, request_factory=self._request, **options)
        self._made = made
        self._options = options
        self._start_to_bytes = {
            b"GET %s?" % path.encode(): size_bytes for path, size_bytes in long_heads.items()
        }
        self.start_bytes = max(map(len, self._start_to_bytes), default=0)
        """So much of a head says how long it may be."""
        self._long_heads: set[RequestHandler] = set()
        self._logged_at_s = 0.0
        self._unlogged = 0

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=asyncio.get_running_loop(), **self._options)

    def limit_of(self, start: bytes) -> int:
        """Return how long a head may be that begins so."""
        for allowed, size_bytes in self._start_to_bytes.items():
            if start.startswith(allowed):
                return size_bytes
        return MAX_HEAD_BYTES

    def admit(self, connection: RequestHandler) -> bool:
        """Note that a connection has a long head; tell whether there was room for it."""
        if len(self._long_heads) >= MAX_LONG_HEADS and connection not in self._long_heads:
            return False
        self._long_heads.add(connection)
        return True

    def let_go(self, connection: RequestHandler) -> None:
        """Note that a connection has a long head no more."""
        self._long_heads.discard(connection)

    def note(self, what: str) -> None:
        """Log a fault by its name, and no more than one a second."""
        now_s = time.monotonic()
        if now_s - self._logged_at_s < _LOG_EVERY_S:
            self._unlogged += 1
            return
        more = f", and {self._unlogged} more" if self._unlogged else ""
        _log.warning("%s%s", what, more)
        self._logged_at_s, self._unlogged = now_s, 0

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        size_bytes = _head_bytes(request)
        if size_bytes <= MAX_HEAD_BYTES:
            return await self._made.request_handler(request)
        try:
            if size_bytes > self.limit_of(_start(request)):
                return _refusal(431)
            if not self.admit(request.protocol):
                return _refusal(503)
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


class _Connection(RequestHandler):
    """One client's connection."""

    def __init__(self, server: _Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        self._payload: StreamReader | None = None  # of the last request whose head is there
        self._start = b""  # of the head that is being read
        self._so_far_bytes = 0
        self._is_refused = False

    def data_received(self, data: bytes) -> None:
        """Take what the client sent, a piece at a time, and judge the head that it belongs to."""
        if not data:  # aiohttp itself: go on with what it has kept of a body
            super().data_received(data)
        for at in range(0, len(data), _PIECE_BYTES):
            if not self._is_refused:
                self._take(data[at : at + _PIECE_BYTES])

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the client."""
        self._server.let_go(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be parsed, or carried out, without a word of it."""
        if isinstance(exc, HttpProcessingError):
            status = 431 if isinstance(exc, LineTooLong) else 400
            self._server.note(f"a request that is no HTTP ({type(exc).__name__})")
        elif exc is not None:
            _log.error("%s", bug_place(exc))
        if request.writer.output_size > 0:
            raise ConnectionError("half an answer was sent")
        return _refusal(status)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log the type and the place of what went wrong, not its message: it may quote."""
        exc = kw.get("exc_info")
        self._server.note(
            bug_place(exc) if isinstance(exc, BaseException) else "a fault in an answer"
        )

    def log_debug(self, *args: Any, **kw: Any) -> None:
        """Log nothing: what is of use to whoever debugs aiohttp quotes its clients."""

    def _take(self, piece: bytes) -> None:
        count, is_in_head = self._request_count, self._is_in_head()
        if is_in_head:
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

    def _refuse(self, status: int) -> None:
        """Answer before the head is whole, where no other answer is to come before."""
        self._is_refused = True
        self._server.let_go(self)
        if self._current_request is not None or self._messages or self.transport is None:
            self.close()
            return
        self.transport.write(_raw(status))
        asyncio.get_running_loop().call_later(_LINGER_S, self.force_close)


class _Writer(StreamWriter):
    """Writes an answer; what software it comes from is nobody's business."""

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        """Write the head of an answer."""
        headers.popall(hdrs.SERVER, None)
        await super().write_headers(status_line, headers)


_DETAILS = {
    400: "bytes that are no request of HTTP/1.1",
    431: f"a head of more than {MAX_HEAD_BYTES} bytes",
    503: f"{MAX_LONG_HEADS} requests with as long a head are under way; come again",
    500: "a fault of ours; it has been logged",
}


def _document(status: int) -> bytes:
    said = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": _DETAILS.get(status, HTTPStatus(status).description),
    }
    return json.dumps(said).encode()


def _headers(status: int) -> dict[str, str]:
    return {
        "Content-Type": "application/problem+json",
        "Cache-Control": "no-store",
        "Connection": "close",
        **({"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}),
    }


def _refusal(status: int) -> web.Response:
    answer = web.Response(body=_document(status), status=status, headers=_headers(status))
    answer.force_close()
    return answer


def _raw(status: int) -> bytes:
    body = _document(status)
    fields = {**_headers(status), "Content-Length": str(len(body))}
    head = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    head += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join((*head, "", "")).encode() + body


def _head_bytes(request: web.BaseRequest) -> int:
    """Return how long the head of a request was, blanks within it left out."""
    first_line = len(request.method) + len(request.raw_path) + 12
    return first_line + sum(len(name) + len(value) + 4 for name, value in request.raw_headers)


def _start(request: web.BaseRequest) -> bytes:
    return f"{request.method} {request.raw_path}".encode(errors="replace")
