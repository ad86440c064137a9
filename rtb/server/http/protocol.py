"""
The edge of the bid listener: a connection, with answers in the order of requests.

    bytes -> Connection -> Reader -> Turn.begin(...)      the application: bids.py
                                       ...                the store, perhaps
    bytes <- Connection     <-       Turn.answer(...)

The guarantees to the network:

- **Answers leave in the order of requests**, whatever the order of the store's replies. All ready
  answers leave in one write.
- **Everything is bounded.** Head, body, pipelined requests, unfetched bytes, and the time for
  each have limits. Time counts from the first byte, so slow bytes gain none.
- **A lost client does no harm.** Its turns are abandoned, and later replies ignored.
- **A refused request gets the reason.** After a refusal, input is discarded for a moment: a close
  with unread bytes would reset the connection and lose the answer.
- **No client can take all connections.** If they are scarce, those without a request close after
  seconds; beyond the limit, the answer is 503.

The guarantee to the processor: no task, future or timer for a request. A turn, its only object, is
never reused: a late reply must not reach another person's request.

A connection with HTTP/2's preface goes to `Site.open_http2`; HTTP/1.1 pays for a single check of
its first bytes.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from mypy_extensions import trait

from rtb.server.http import http11
from rtb.server.http.request_heads import Head, Heads
from rtb.server.http.request_reader import Limits, Reader, Taker
from rtb.server.http.turn import Asker, Turn
from rtb.server.http.unfinished import Unfinished
from rtb.server.metrics.layout import Refusal

LINGER_S: Final = 2.0
_FIRST_OF_POST: Final = b"P"
_CROWDED_SHARE: Final = 0.9
SILENT_IN_CROWD_S: Final = 2.0

HTTP2_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""The first bytes of an HTTP/2 client (RFC 9113, 3.4)."""


@trait
class Guest:
    """A client's connection, as its site sees it; see `Connection`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; part of `asyncio.Protocol`."""
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        """Take received bytes; part of `asyncio.Protocol`."""
        raise NotImplementedError

    def check(self, now_s: float, is_crowded: bool) -> None:
        """End what has timed out; called by `Site.sweep`."""
        raise NotImplementedError

    def drain(self) -> None:
        """Tell the client to send its next requests elsewhere."""
        raise NotImplementedError

    def close(self) -> None:
        """Close after all buffered output is sent."""
        raise NotImplementedError

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress, from its first byte to its answer."""
        raise NotImplementedError


class Site:
    """
    The shared state of a worker's connections.

    Args:
        new_turn: Makes the turn of each request: the application.
        on_refusal: Called for each request refused by HTTP.
        on_bug: Called with the application's exception; the connection then closes.
        max_connections: The limit of open connections.
        names_of_client: Reads the names in a client's certificate; `None`: no certificate.
        open_http2: Makes the protocol of an HTTP/2 connection; `None`: HTTP/2 is off.
        new_turn_of_stream: Makes the turn of an HTTP/2 request, which may be a call; `None`: as
            `new_turn`.
    """

    __slots__ = (
        "connections",
        "heads",
        "is_draining",
        "limits",
        "max_connections",
        "names_of_client",
        "new_turn",
        "new_turn_of_stream",
        "now_s",
        "on_bug",
        "on_refusal",
        "open_http2",
        "unfinished",
    )

    def __init__(
        self,
        new_turn: Callable[[Asker, Head], Turn],
        limits: Limits = Limits(),  # noqa: B008 - immutable
        on_refusal: Callable[[Refusal], None] = lambda _: None,
        on_bug: Callable[[Exception], None] = lambda _: None,
        max_connections: int = 1 << 30,
        names_of_client: Callable[[asyncio.BaseTransport], frozenset[str] | None] = lambda _: None,
        open_http2: Callable[["Site"], Guest] | None = None,
        new_turn_of_stream: Callable[[Asker, Head], Turn] | None = None,
    ) -> None:
        self.open_http2 = open_http2
        self.names_of_client = names_of_client
        self.new_turn = new_turn
        self.new_turn_of_stream = new_turn_of_stream or new_turn
        self.max_connections = max_connections
        self.limits = limits
        self.on_refusal = on_refusal
        self.on_bug = on_bug
        self.heads = Heads()
        one = limits.max_any_head_bytes + limits.max_body_bytes
        self.unfinished = Unfinished(max(one, limits.max_unfinished_bytes))
        self.connections: set[Guest] = set()
        self.is_draining = False
        self.now_s = 0.0
        """Monotonic, updated by `sweep`: precise enough for timeouts of seconds."""

    def connection(self) -> asyncio.Protocol:
        """Make the protocol of an accepted connection."""
        return cast("asyncio.Protocol", Connection(self))

    def drain(self) -> None:
        """End each connection as soon as its client can be told."""
        if not self.is_draining:
            self.is_draining = True
            for connection in tuple(self.connections):
                connection.drain()

    @property
    def has_room(self) -> bool:
        """Whether the number of connections is within the limit."""
        return len(self.connections) <= self.max_connections

    def sweep(self, now_s: float) -> None:
        """End what has timed out. Call it a few times a second."""
        self.now_s = now_s
        is_crowded = len(self.connections) > _CROWDED_SHARE * self.max_connections
        for connection in tuple(self.connections):
            connection.check(now_s, is_crowded)


class Connection(Taker, Asker, Guest):
    """
    A client's connection: an `asyncio.Protocol` in all but its base.

    A compiled class with an interpreted base looks up its own fields by name.
    """

    __slots__ = (
        "_client_names",
        "_is_choked",
        "_is_client_read",
        "_is_closing",
        "_is_lingering",
        "_is_new",
        "_is_paused",
        "_made_s",
        "_opening",
        "_reader",
        "_since_s",
        "_turns",
        "site",
        "transport",
    )

    def __init__(self, site: Site) -> None:
        self.site = site
        self.transport: asyncio.Transport | None = None
        self._reader = Reader(self, site.limits, site.heads, site.unfinished)
        self._turns: deque[Turn] = deque()
        # Before any request of the same coarse tick.
        self._made_s = self._since_s = site.now_s - 0.001
        self._is_closing = False  # reads no further request
        self._is_lingering = False  # has refused; reads and discards
        self._is_choked = False  # the client does not fetch answers
        self._is_paused = False
        self._client_names: frozenset[str] | None = None
        self._is_client_read = False
        self._is_new = True  # not yet known to be HTTP/1.1 or HTTP/2
        self._opening = b""

    # The network's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `Guest`."""
        self.transport = transport  # type: ignore[assignment] # a stream's, by contract
        self.site.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client, and abandon its turns."""
        self.transport = None
        self._reader.close()
        self._is_closing = True
        self.site.connections.discard(self)
        turns, self._turns = self._turns, deque()
        for turn in turns:
            turn.abandon()

    def data_received(self, data: bytes) -> None:
        """Take received bytes; complete requests begin at once."""
        if self._is_new:
            data = self._opened(data)
        if self._is_closing or not data:
            return
        site = self.site
        try:
            self._reader.read(data, site.now_s)
        except Exception as bug:  # noqa: BLE001 - a bug costs only this client
            site.on_bug(bug)
            self.abort()
        if len(self._turns) >= site.limits.max_pipelined:
            self._pause()

    def eof_received(self) -> bool:
        """Let a half-closed client get its pending answers."""
        self._is_closing = True
        if self._turns:
            _end_with(self._turns[-1])
        return bool(self._turns)

    def pause_writing(self) -> None:
        """Stop reading while answers are not fetched."""
        self._is_choked = True
        self._since_s = self.site.now_s
        self._pause()

    def resume_writing(self) -> None:
        """Read again: the client has fetched its answers."""
        self._is_choked = False
        self._since_s = self.site.now_s
        self._resume()

    def drain(self) -> None:
        """Do nothing: the next answer announces the end."""

    def check(self, now_s: float, is_crowded: bool) -> None:
        """See `Guest`."""
        waited_s = now_s - self._since_s
        limits = self.site.limits
        if self._is_lingering or self._is_choked:
            limit_s = LINGER_S if self._is_lingering else limits.fetch_timeout_s
            if waited_s > limit_s:
                self.abort()
        elif self._opening:
            if waited_s > limits.head_timeout_s:
                self._end_opening()
        elif self._reader.is_amid:
            if self._reader.is_too_slow(now_s):
                self.refuse(Refusal.TOO_SLOW)
        elif not self._turns:
            is_silent = is_crowded and self._since_s == self._made_s
            if waited_s > (SILENT_IN_CROWD_S if is_silent else limits.idle_timeout_s):
                self.close()

    # The reader's side.

    def take(self, head: Head, body: bytes) -> None:
        """Begin a request's turn."""
        if self._is_closing:
            return
        site = self.site
        self._since_s = site.now_s
        self._is_closing = head.is_last
        turn = site.new_turn(self, head)
        self._turns.append(turn)
        turn.begin(head, body)

    def refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal, and end the connection."""
        # Bytes after a `Connection: close` are no request to refuse.
        if self._is_closing:
            return
        self._is_lingering = self._is_closing = True
        self._since_s = self.site.now_s
        self._reader.stop()
        turn = Turn(self, _NO_HEAD)
        self._turns.append(turn)
        turn.refuse(refusal)

    def encourage(self) -> None:
        """Write 100 Continue, unless an earlier answer is pending."""
        # It would pass for that answer. The client sends the body after a wait (RFC 9110, 10.1.1).
        if self.transport is not None and not self._turns and not self._is_closing:
            self.transport.write(http11.CONTINUE)

    def end(self) -> None:
        """Stop reading, and close after the last answer."""
        self._is_closing = True
        self._reader.stop()
        if not self._turns:
            self.close()

    # The application's side.

    def answer(self, turn: Turn, head: bytes, body: bytes | None) -> None:
        """Write an answer and those waiting for it; hold it while an earlier answer is due."""
        if turn.is_last or self.site.is_draining:
            # A drain closes after the last request received, not before it.
            turn.is_last = turn.is_last or self._ends_with(turn)
            if turn.is_last:
                head += http11.CLOSE
        if body is None:
            self._send(turn, head + b"\r\n")
        else:
            self._send(turn, b"".join((head, b"Content-Length: %d\r\n\r\n" % len(body), body)))

    def _send(self, turn: Turn, payload: bytes) -> None:
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

    def _ends_with(self, turn: Turn) -> bool:
        """End the connection with this turn, unless a later one has begun; return whether so."""
        is_last = self._turns[-1] is turn
        self._is_closing = self._is_closing or is_last
        return is_last

    def note_refusal(self, refusal: Refusal) -> None:
        """See `Asker`."""
        self.site.on_refusal(refusal)

    def client_names(self) -> frozenset[str] | None:
        """See `Asker`; read once."""
        if not self._is_client_read and self.transport is not None:
            self._client_names = self.site.names_of_client(self.transport)
            self._is_client_read = True
        return self._client_names

    def close(self) -> None:
        """See `Guest`."""
        if self.transport is not None:
            self._is_closing = True
            self.transport.close()

    def abort(self) -> None:
        """See `Asker`."""
        if self.transport is not None:
            self.transport.abort()

    @property
    def is_idle(self) -> bool:
        """See `Guest`."""
        return not (self._reader.is_amid or self._turns or self._is_choked or self._opening)

    # Ours.

    def _opened(self, data: bytes) -> bytes:
        """Decide between HTTP/1.1 and HTTP/2; return the bytes for HTTP/1.1."""
        site, transport = self.site, self.transport
        data = self._opening + data
        is_http2 = site.open_http2 is not None and data.startswith(HTTP2_PREFACE)
        if site.open_http2 is not None and not is_http2 and HTTP2_PREFACE.startswith(data):
            if not self._opening:
                self._since_s = site.now_s
            self._opening = data
            return b""
        self._opening = b""
        self._is_new = False
        if is_http2 and transport is not None and site.open_http2 is not None:
            site.connections.discard(self)
            self.transport, self._is_closing = None, True
            self._reader.close()
            successor = site.open_http2(site)
            transport.set_protocol(cast("asyncio.Protocol", successor))
            successor.connection_made(transport)
            successor.data_received(data)
            return b""
        if not site.has_room:
            self.refuse(Refusal.TOO_MANY_CONNECTIONS)
        return data

    def _end_opening(self) -> None:
        """Refuse the beginning of a POST; one of an HTTP/2 preface expects no answer."""
        is_method = self._opening == _FIRST_OF_POST
        self._opening = b""
        self._is_new = False
        if is_method:
            self.refuse(Refusal.TOO_SLOW)
        else:
            self.close()

    def _finish(self) -> None:
        for turn in self._turns:  # after the last answer, so never answered
            turn.abandon()
        self._turns.clear()
        if not self._is_lingering:
            self.close()
        elif self.transport is not None:
            self._since_s = self.site.now_s
            if self.transport.can_write_eof():  # TLS can't close one half
                self.transport.write_eof()

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


def _end_with(turn: Turn) -> None:
    """Make a turn the last of its connection, and announce that in its answer."""
    if not turn.is_last and turn.payload is not None:
        status, _, rest = turn.payload.partition(b"\r\n")
        turn.payload = b"".join((status, b"\r\n", http11.CLOSE, rest))
    turn.is_last = True


_NO_HEAD: Final = Head(b"", b"", {}, b"", b"", wants_gzip=False, is_last=True, body_bytes=0)
