"""
The edge of the bid listener: one connection, answers in the order of requests.

    bytes -> Connection -> Reader -> Turn.begin(...)      the application: bids.py
                                       ...                the store, perhaps
    bytes <- Connection     <-       Turn.answer(...)

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
that the benchmark compares it with is another, in `loadtest.bench.peers`.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from mypy_extensions import mypyc_attr

from rtb.server.http import http11
from rtb.server.http.request_heads import Head, Heads
from rtb.server.http.request_reader import Limits, Reader, Taker
from rtb.server.metrics.layout import Refusal

_LINGER_S: Final = 2.0


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
        "heads",
        "is_draining",
        "limits",
        "new_turn",
        "now_s",
        "on_bug",
        "on_refusal",
    )

    def __init__(
        self,
        new_turn: Callable[["Connection", Head], "Turn"],
        limits: Limits = Limits(),  # noqa: B008 - immutable
        on_refusal: Callable[[Refusal], None] = lambda _: None,
        on_bug: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self.new_turn = new_turn
        self.limits = limits
        self.on_refusal = on_refusal
        self.on_bug = on_bug
        self.heads = Heads()
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
        head: Of the request.
    """

    __slots__ = ("connection", "extra", "is_last", "payload", "wants_gzip")

    def __init__(self, connection: "Connection", head: Head) -> None:
        self.connection = connection
        self.extra = head.extra
        self.wants_gzip = head.wants_gzip
        self.is_last = head.is_last
        self.payload: bytes | None = None

    def begin(self, head: Head, body: bytes) -> None:
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

    def end_here(self) -> None:
        """Make this the last turn of its connection, and have its answer say so."""
        if not self.is_last and self.payload is not None:
            status, _, rest = self.payload.partition(b"\r\n")
            self.payload = b"".join((status, b"\r\n", http11.CLOSE, rest))
        self.is_last = True

    def _closing(self) -> bytes:
        # A drain closes behind the last request that is here, not before it.
        self.is_last = self.is_last or self.connection.ends_with(self)
        return http11.CLOSE if self.is_last else b""

    def refuse(self, refusal: Refusal) -> None:
        """Answer that this is not a request to the bid path."""
        self.connection.site.on_refusal(refusal)
        self.answer(http11.REFUSAL_HEADS[refusal], b"")


class Connection(Taker):
    """
    One client's connection: an `asyncio.Protocol` in all but its base.

    A compiled class with an interpreted base looks its own fields up by name.
    """

    __slots__ = (
        "_is_choked",
        "_is_closing",
        "_is_lingering",
        "_is_paused",
        "_reader",
        "_since_s",
        "_turns",
        "site",
        "transport",
    )

    def __init__(self, site: Site) -> None:
        self.site = site
        self.transport: asyncio.Transport | None = None
        self._reader = Reader(self, site.limits, site.heads)
        self._turns: deque[Turn] = deque()
        self._since_s = site.now_s
        self._is_closing = False  # reads no further request
        self._is_lingering = False  # has refused, and reads only to throw away
        self._is_choked = False  # the client does not fetch our answers
        self._is_paused = False

    # The network's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; part of `asyncio.Protocol`."""
        self.transport = transport  # type: ignore[assignment] # a stream's, by contract
        self.site.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client and whatever it still waited for."""
        self.transport = None
        self._reader.close()
        self._is_closing = True
        self.site.connections.discard(self)
        turns, self._turns = self._turns, deque()
        for turn in turns:
            turn.abandon()

    def data_received(self, data: bytes) -> None:
        """Take what came; whole requests begin at once."""
        if self._is_closing:
            return
        site = self.site
        try:
            self._reader.read(data, site.now_s)
        except Exception as bug:  # noqa: BLE001 - one client's, whatever it is
            site.on_bug(bug)
            self.abort()
        if len(self._turns) >= site.limits.max_pipelined:
            self._pause()

    def eof_received(self) -> bool:
        """Let a client that closed its half have what it still waits for."""
        self._is_closing = True
        if self._turns:
            self._turns[-1].end_here()
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
        elif self._reader.is_amid:
            if self._reader.is_too_slow(now_s):
                self.refuse(Refusal.TOO_SLOW)
        elif not self._turns and waited_s > limits.idle_timeout_s:
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
        """Answer that this is no request, or one too large or too slow, and end."""
        # Bytes behind a `Connection: close` are errors too, with nothing to refuse.
        if self._is_closing:
            return
        self._is_lingering = self._is_closing = True
        self._since_s = self.site.now_s
        self._reader.stop()
        turn = Turn(self, _NO_HEAD)
        self._turns.append(turn)
        turn.refuse(refusal)

    def encourage(self) -> None:
        """Write 100 Continue, unless an answer is still to come before it."""
        # Behind an unanswered request it would be taken for its answer; the
        # client then sends the body when it is tired of waiting (RFC 9110, 10.1.1).
        if self.transport is not None and not self._turns and not self._is_closing:
            self.transport.write(http11.CONTINUE)

    def end(self) -> None:
        """Read no more, and close behind the last answer."""
        self._is_closing = True
        self._reader.stop()
        if not self._turns:
            self.close()

    # The application's side.

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
        return not (self._reader.is_amid or self._turns or self._is_choked)

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


_NO_HEAD: Final = Head(b"", b"", {}, b"", b"", wants_gzip=False, is_last=True, body_bytes=0)
