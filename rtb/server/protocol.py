"""
The edge of the bid listener: HTTP/1.1 on httptools, answers in order.

    bytes -> Connection -> Turn.begin(...)      the application: bids.py
                             ...                the store, perhaps
    bytes <- Connection <- Turn.answer(...)

What this module promises the network:

- **Answers leave in the order of requests**, however the store answers, and all
  that are ready leave in one write.
- **Nothing is unbounded.** Head, body, requests in the pipeline, bytes that a
  client does not fetch, and the time for each of them have limits. A time counts
  from the first byte, so dripping bytes buys none.
- **A client that is gone takes nothing with it.** Its turns are abandoned, and
  what the store says of them later finds nobody.
- **A refused request is told why.** After a refusal we go on reading for a
  moment and throw it away: a close with bytes unread would reset the connection
  and our answer with it.

What it promises the processor: no task, future or timer for a request. A turn
is the one object per request, and is never used for a second one: a late reply of
the store must not find another person's request in it.

A `Turn` subclass is the application. The bid path is one (bids.py); the floor
that the benchmark compares it with is another, in `loadtest.peers`.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from mypy_extensions import mypyc_attr

from rtb.server import http11
from rtb.server.metrics import Refusal

_IDLE, _HEAD, _BODY = range(3)

_LINGER_S: Final = 2.0
_MAX_HEADERS: Final = 100


class Limits(NamedTuple):
    """What one connection may take of us."""

    max_head_bytes: int = 16_384
    max_body_bytes: int = 262_144
    max_pipelined: int = 64
    head_timeout_s: float = 10.0
    body_timeout_s: float = 10.0
    idle_timeout_s: float = 75.0
    fetch_timeout_s: float = 10.0
    """How long a client may leave our answers unfetched."""


class Site:
    """
    What all connections of a worker share.

    Args:
        new_turn: Makes the turn of each request: the application.
        on_refusal: Told of each request that HTTP refuses.
        on_bug: Told what the application raised; the connection is closed then.
    """

    __slots__ = (
        "connections",
        "is_draining",
        "limits",
        "new_turn",
        "now_s",
        "on_bug",
        "on_refusal",
    )

    def __init__(
        self,
        new_turn: Callable[["Connection", bytes, bool, bool], "Turn"],
        limits: Limits = Limits(),  # noqa: B008 - immutable
        on_refusal: Callable[[Refusal], None] = lambda _: None,
        on_bug: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self.new_turn = new_turn
        self.limits = limits
        self.on_refusal = on_refusal
        self.on_bug = on_bug
        self.connections: set[Connection] = set()
        self.is_draining = False
        self.now_s = 0.0
        """Monotonic, as coarse as `sweep` is called: for timeouts of seconds."""

    def connection(self) -> asyncio.Protocol:
        """Make the protocol of a connection that was accepted."""
        return cast("asyncio.Protocol", Connection(self))

    def sweep(self, now_s: float) -> None:
        """End the connections whose time is up. Call it a few times a second."""
        self.now_s = now_s
        for connection in tuple(self.connections):
            connection.check(now_s)


@mypyc_attr(allow_interpreted_subclasses=True)  # the floor of the benchmark is one
class Turn:
    """
    One request, and the place of its answer in the order of its connection.

    Args:
        connection: Where it came from.
        extra: Lines of the answer's head that the request asked for.
        wants_gzip: The request takes a gzip answer.
        is_last: The connection ends with this answer.
    """

    __slots__ = ("connection", "extra", "is_last", "payload", "wants_gzip")

    def __init__(
        self, connection: "Connection", extra: bytes, wants_gzip: bool, is_last: bool
    ) -> None:
        self.connection = connection
        self.extra = extra
        self.wants_gzip = wants_gzip
        self.is_last = is_last
        self.payload: bytes | None = None

    def begin(self, method: bytes, url: bytes, body: bytes, encoding: bytes) -> None:
        """Answer now, or see to it that `answer` is called later, once."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Forget it: the client is gone."""

    def answer(self, head: bytes, body: bytes) -> None:
        """
        Answer.

        Args:
            head: As of `http11.head_of`.
            body: May be empty.
        """
        extra = self.extra
        if self.wants_gzip and len(body) >= http11.MIN_GZIP_BYTES:
            body = http11.fold(body)
            extra += http11.ENCODED
        if self.is_last or self.connection.site.is_draining:
            extra += self._closing()
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        self.connection.send(self, b"".join((head, extra, length, body)))

    def answer_nothing(self, head: bytes) -> None:
        """Answer 204, which has neither a body nor the length of one (RFC 9110, 8.6)."""
        extra = self.extra
        if self.is_last or self.connection.site.is_draining:
            extra += self._closing()
        self.connection.send(self, b"".join((head, extra, b"\r\n")))

    def _closing(self) -> bytes:
        # A drain closes behind the last request that is here, not before it.
        self.is_last = self.is_last or self.connection.ends_with(self)
        return http11.CLOSE if self.is_last else b""

    def refuse(self, refusal: Refusal) -> None:
        """Answer that this is not a request to the bid path."""
        self.connection.site.on_refusal(refusal)
        self.answer(http11.REFUSAL_HEADS[refusal], b"")


class Connection:
    """
    One client's connection: an `asyncio.Protocol` in all but its base.

    A compiled class with an interpreted base looks its own fields up by name.
    """

    __slots__ = (
        "_body",
        "_body_bytes",
        "_encoding",
        "_expects",
        "_extra",
        "_headers",
        "_is_choked",
        "_is_closing",
        "_is_large",
        "_is_lingering",
        "_is_paused",
        "_more",
        "_parser",
        "_part_bytes",
        "_phase",
        "_since_s",
        "_turns",
        "_url",
        "_wants_gzip",
        "on_header",
        "site",
        "transport",
    )

    def __init__(self, site: Site) -> None:
        self.site = site
        self.transport: asyncio.Transport | None = None
        self._turns: deque[Turn] = deque()
        self._headers: dict[bytes, bytes] = {}
        # A dictionary's own method: eight headers cost what one Python call does.
        self.on_header = self._headers.__setitem__
        self._url = b""
        self._body = b""
        self._more: list[bytes] = []
        self._body_bytes = 0
        self._extra = b""
        self._encoding = b""
        self._wants_gzip = False
        self._expects = False
        self._phase = _IDLE
        self._since_s = site.now_s
        self._part_bytes = 0
        self._is_large = False
        self._is_closing = False  # reads no further request
        self._is_lingering = False  # has refused, and reads only to throw away
        self._is_choked = False  # the client does not fetch our answers
        self._is_paused = False
        self._parser: HttpRequestParser | None = HttpRequestParser(self)

    # The network's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; part of `asyncio.Protocol`."""
        self.transport = transport  # type: ignore[assignment] # a stream's, by contract
        self.site.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client and whatever it still waited for."""
        self.transport = None
        self._parser = None  # it holds our methods, and we hold it
        self._is_closing = True
        self.site.connections.discard(self)
        turns, self._turns = self._turns, deque()
        for turn in turns:
            turn.abandon()

    def data_received(self, data: bytes) -> None:
        """Take what came; whole requests begin at once."""
        if self._is_closing or self._parser is None:
            return
        limits = self.site.limits
        self._is_large = len(data) > limits.max_head_bytes
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._stop_reading()  # what follows is another protocol, which we don't speak
        except HttpParserError as error:
            # What a callback of ours raised comes as the context of the parser's own.
            bug = error.__context__
            if isinstance(bug, Exception) and not isinstance(bug, HttpParserError):
                self.site.on_bug(bug)
                self.abort()
            # Bytes behind a `Connection: close` are errors too, with nothing to refuse.
            elif not self._is_closing:
                self._refuse(Refusal.BAD_HTTP)
        if self._url:
            self._note_part(len(data))
        if len(self._turns) >= limits.max_pipelined:
            self._pause()

    def eof_received(self) -> bool:
        """Let a client that closed its half have what it still waits for."""
        self._is_closing = True
        return bool(self._turns)

    def pause_writing(self) -> None:
        """Take no more requests from a client that does not fetch their answers."""
        self._is_choked = True
        self._since_s = self.site.now_s
        self._pause()

    def resume_writing(self) -> None:
        """Go on: the client has fetched its answers."""
        self._is_choked = False
        self._since_s = self.site.now_s
        self._resume()

    def check(self, now_s: float) -> None:
        """Close if a time is up; called by `Site.sweep`."""
        waited_s = now_s - self._since_s
        limits = self.site.limits
        if self._is_lingering or self._is_choked:
            limit_s = _LINGER_S if self._is_lingering else limits.fetch_timeout_s
            if waited_s > limit_s:
                self.abort()
        elif self._url:
            limit_s = limits.head_timeout_s if self._phase == _HEAD else limits.body_timeout_s
            if waited_s > limit_s:
                self._refuse(Refusal.TOO_SLOW)
        elif not self._turns and waited_s > limits.idle_timeout_s:
            self.close()

    # The parser's side.

    def on_url(self, url: bytes) -> None:
        """Take the request's target, or the next piece of it."""
        self._url += url

    def on_headers_complete(self) -> None:
        """Read the few headers that change anything."""
        headers = self._headers
        for name in headers:
            if name not in _PLAIN:
                self._read_header(name, headers[name])
        if (self._is_large or self._part_bytes or len(headers) > _MAX_HEADERS) and (
            len(headers) > _MAX_HEADERS or self._head_bytes() > self.site.limits.max_head_bytes
        ):
            self._refuse(Refusal.HEAD_TOO_LARGE)
        self._phase = _BODY
        if self._expects:
            self._expects = False
            self._expect(headers)

    def on_body(self, chunk: bytes) -> None:
        """Take the body, or the next piece of it."""
        if self._body:
            self._more.append(chunk)
        else:
            self._body = chunk
        self._body_bytes += len(chunk)
        if self._body_bytes > self.site.limits.max_body_bytes:
            self._refuse(Refusal.BODY_TOO_LARGE)
            self._body = b""
            self._more.clear()

    def on_message_complete(self) -> None:
        """Begin the request's turn."""
        url, body, encoding = self._url, self._body, self._encoding
        if self._more:
            body += b"".join(self._more)
            self._more.clear()
        parser = self._parser
        if self._is_closing or parser is None:
            return
        site = self.site
        self._since_s = site.now_s
        self._is_closing = is_last = not parser.should_keep_alive()
        turn = site.new_turn(self, self._extra, self._wants_gzip, is_last)
        self._url = self._body = self._extra = self._encoding = b""
        self._body_bytes = self._part_bytes = self._phase = 0
        self._wants_gzip = False
        self._turns.append(turn)
        turn.begin(parser.get_method(), url, body, encoding)
        self._headers.clear()

    # The application's side.

    def header(self, name: bytes) -> bytes:
        """Return a header of the request whose turn begins; empty if it has none."""
        for key, value in self._headers.items():
            if key.lower() == name:
                return value
        return b""

    def send(self, turn: Turn, payload: bytes) -> None:
        """Write an answer, and those that waited for it; keep it while an earlier one is out."""
        turns = self._turns
        transport = self.transport
        if transport is None:
            return
        if turns[0] is not turn:
            turn.payload = payload
            return
        turns.popleft()
        if turns:
            ready = [payload]
            while turns and not turn.is_last and turns[0].payload is not None:
                turn = turns.popleft()
                ready.append(turn.payload or b"")
            payload = b"".join(ready)
        transport.write(payload)
        if turn.is_last:
            self._is_closing = True
            self._finish()
        elif self._is_closing and not turns:
            self.close()
        elif self._is_paused:
            self._resume()

    def ends_with(self, turn: Turn) -> bool:
        """End the connection with this turn, if no other has begun behind it."""
        is_last = self._turns[-1] is turn
        self._is_closing = self._is_closing or is_last
        return is_last

    def close(self) -> None:
        """Close once everything written has left."""
        if self.transport is not None:
            self._is_closing = True
            self.transport.close()

    def abort(self) -> None:
        """Close at once, whatever is still to be written."""
        if self.transport is not None:
            self.transport.abort()

    @property
    def is_idle(self) -> bool:
        """Whether nothing of a request is here: neither a byte nor an answer to come."""
        return not (self._url or self._turns or self._is_choked)

    # Ours.

    def _finish(self) -> None:
        for turn in self._turns:  # behind the last one, so never answered
            turn.abandon()
        self._turns.clear()
        if not self._is_lingering:
            self.close()
        elif self.transport is not None:
            self._since_s = self.site.now_s
            self.transport.write_eof()

    def _refuse(self, refusal: Refusal) -> None:
        if self._is_lingering:
            return
        self._is_lingering = self._is_closing = True
        self._since_s = self.site.now_s
        self._url = b""
        turn = Turn(self, b"", wants_gzip=False, is_last=True)
        self._turns.append(turn)
        turn.refuse(refusal)

    def _stop_reading(self) -> None:
        self._is_closing = True
        self._url = b""
        if not self._turns:
            self.close()

    def _note_part(self, received: int) -> None:
        """Mind the limits of a request of which only a part is here."""
        now_s = self.site.now_s
        limits = self.site.limits
        phase = self._phase or _HEAD
        if phase != self._phase or not self._part_bytes:
            # The first part of a head: measured, for what came before it was others'.
            self._since_s = now_s
            self._phase = phase
            self._part_bytes = self._head_bytes()
        else:
            self._part_bytes += received
        if phase == _HEAD and self._part_bytes > limits.max_head_bytes:
            self._refuse(Refusal.HEAD_TOO_LARGE)
        # Chunks and trailers weigh too, and only their content counts as body.
        elif self._part_bytes > limits.max_head_bytes + 4 * limits.max_body_bytes:
            self._refuse(Refusal.BODY_TOO_LARGE)

    def _head_bytes(self) -> int:
        return len(self._url) + sum(len(name) + len(self._headers[name]) for name in self._headers)

    def _read_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"accept-encoding":
                self._wants_gzip = http11.takes_gzip(value)
            case b"content-encoding":
                self._encoding = value
            case b"x-openrtb-version":
                self._extra += http11.version_line(value)
            case b"expect":
                self._expects = True
            case b"connection":
                # HTTP/1.0 wants to hear it; 1.1 takes it for granted.
                if (
                    value.lower() == b"keep-alive"
                    and self._parser is not None
                    and self._parser.get_http_version() == "1.0"
                ):
                    self._extra += http11.KEEP_ALIVE
            case _:
                if len(_PLAIN) < _MAX_PLAIN:
                    _PLAIN.add(name)

    def _expect(self, headers: dict[bytes, bytes]) -> None:
        if self.header(b"expect").lower() != b"100-continue":
            self._refuse(Refusal.EXPECTATION)
            return
        length = self.header(b"content-length")
        if length.isdigit() and int(length) > self.site.limits.max_body_bytes:
            self._refuse(Refusal.BODY_TOO_LARGE)
        elif self.transport is not None and not self._turns and not self._is_closing:
            # Behind an unanswered request it would be taken for its answer; the
            # client then sends the body when it is tired of waiting (RFC 9110, 10.1.1).
            self.transport.write(http11.CONTINUE)

    def _pause(self) -> None:
        if not self._is_paused and self.transport is not None:
            self._is_paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if (
            self._is_paused
            and not self._is_choked
            and len(self._turns) <= self.site.limits.max_pipelined // 2
            and self.transport is not None
        ):
            self._is_paused = False
            self.transport.resume_reading()


_PLAIN: Final = {b"Host", b"User-Agent", b"Accept", b"Content-Type", b"Content-Length"}
"""Names of headers that change nothing here, as spelled; learnt, up to a limit."""

_MAX_PLAIN: Final = 1000
