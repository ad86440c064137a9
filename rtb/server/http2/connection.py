"""
HTTP/2 on a socket: a connection with many streams, each with its own request.

    bytes -> Session -> Stream -> Turn.begin(...)     the application: bids.py
                                    ...               the store, perhaps
    bytes <- Session <- Stream <- Turn.answer(...)

The guarantees, limits and turns are those of HTTP/1.1 (rtb/server/http/protocol.py). Specific to
HTTP/2:

- **All answers of a turn of the event loop leave in one write**, in any order.
- **The memory of a connection's streams is bounded together**: unfinished bodies, and unfetched
  answers. Beyond the limit, new streams and body parts are refused, and answers dropped. Unfinished
  requests also have the worker's budget (`Unfinished`).
- **A client with endless stream resets or useless frames** gets ENHANCE_YOUR_CALM, and the
  connection closes.
- **No call is lost when a connection ends**, by age or at a drain. The connection announces the
  end, then names the last stream, and closes after its answer (RFC 9113, 6.8). Without the age
  limit, lasting connections would stay with the same worker.
"""

import asyncio
import random
from collections.abc import Callable
from math import inf
from typing import Final

from rtb.server.http.protocol import LINGER_S, SILENT_IN_CROWD_S, Guest, Site
from rtb.server.http2.fields import expects_continue, head_of_fields
from rtb.server.http2.session import (
    Broken,
    ErrorCode,
    NewSession,
    Session,
    SessionLimits,
    StreamTaker,
)
from rtb.server.http2.stream import NO_HEAD, Stream
from rtb.server.metrics.layout import Refusal

_LAST_STREAM_AFTER_S: Final = 1.0
"""From the announcement to the last stream's number: ample for a round trip."""

_AGE_SPREAD: Final = 0.1
"""Spreads the ends of connections that began together."""

_MAX_BODIES: Final = 16
"""A connection's memory limit, in bodies of the largest size."""

_WRITE_BYTES: Final = 262_144


class Http2:
    """
    The shared state of a worker's HTTP/2 connections.

    Args:
        new_session: Makes the reader and writer of frames.
        call_soon: The event loop's.
        limits: As told to a peer.
        max_age_s: The maximum age of a connection; 0: no limit.
        rng: Spreads the ends of connections.
    """

    __slots__ = ("_call_soon", "_dirty", "_max_age_s", "_rng", "limits", "new_session")

    def __init__(
        self,
        new_session: NewSession,
        call_soon: Callable[[Callable[[], None]], object],
        limits: SessionLimits,
        max_age_s: float = 0.0,
        rng: random.Random | None = None,
    ) -> None:
        self.new_session = new_session
        self._call_soon = call_soon
        self.limits = limits
        self._max_age_s = max_age_s
        self._rng = rng
        self._dirty: list[Http2Connection] = []

    def connection(self, site: Site) -> Guest:
        """Make the protocol of an HTTP/2 connection."""
        return Http2Connection(site, self, self._age_s())

    def will_flush(self, connection: "Http2Connection") -> None:
        """Write a connection's output at the end of this turn."""
        if not self._dirty:
            self._call_soon(self.flush)
        self._dirty.append(connection)

    def flush(self) -> None:
        """Write the output of all connections."""
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            connection.flush()

    def _age_s(self) -> float:
        if not self._max_age_s:
            return inf
        spread = 0.0 if self._rng is None else self._rng.uniform(-_AGE_SPREAD, _AGE_SPREAD)
        return self._max_age_s * (1 + spread)


class Http2Connection(StreamTaker, Guest):
    """A client's connection."""

    __slots__ = (
        "_client_names",
        "_held_bytes",
        "_http2",
        "_is_choked",
        "_is_client_read",
        "_is_closing",
        "_is_dirty",
        "_is_flood",
        "_is_last_said",
        "_is_lingering",
        "_is_reading",
        "_leaving_s",
        "_made_s",
        "_max_held_bytes",
        "_resets",
        "_resets_at_s",
        "_session",
        "_since_s",
        "_streams",
        "_touched",
        "_until_s",
        "site",
        "transport",
    )

    def __init__(self, site: Site, http2: Http2, age_s: float) -> None:
        self.site = site
        self.transport: asyncio.Transport | None = None
        self._http2 = http2
        self._session: Session = http2.new_session(self, http2.limits)
        self._streams: dict[int, Stream] = {}
        self._touched: list[Stream] = []  # that got a head, or a part of a body, in this read
        self._made_s = self._since_s = site.now_s - 0.001
        self._until_s = self._made_s + age_s
        self._leaving_s = inf  # when the client was told to open no more streams
        self._is_last_said = False
        self._is_closing = False  # reads nothing more
        self._is_lingering = False  # reads and discards
        self._is_choked = False  # the client does not fetch the output
        self._is_reading = False
        self._is_dirty = False
        self._max_held_bytes = _MAX_BODIES * site.limits.max_body_bytes
        self._held_bytes = 0
        self._resets = 0.0
        self._is_flood = False
        self._resets_at_s = site.now_s
        self._client_names: frozenset[str] | None = None
        self._is_client_read = False

    # The network's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `Guest`."""
        self.transport = transport  # type: ignore[assignment] # a stream's, by contract
        site = self.site
        site.connections.add(self)
        if not site.has_room:
            site.on_refusal(Refusal.TOO_MANY_CONNECTIONS)
            self._hang_up(ErrorCode.ENHANCE_YOUR_CALM)
        elif site.is_draining:
            self.drain()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client, and abandon its turns."""
        self.transport = None
        self._is_closing = True
        self.site.connections.discard(self)
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.forget()
        self._session.close()

    def data_received(self, data: bytes) -> None:
        """Take received bytes; complete requests begin at once."""
        if self._is_closing:
            return
        site, session = self.site, self._session
        self._is_reading = True
        try:
            session.receive(data)
        except Broken:
            site.on_refusal(Refusal.BAD_HTTP)
            self._linger()
        except Exception as bug:  # noqa: BLE001 - a bug costs only this client
            site.on_bug(bug)
            self.abort()
        else:
            if self._is_flood or session.idle_frames > self._http2.limits.max_idle_frames:
                site.on_refusal(Refusal.FLOOD)
                self._hang_up(ErrorCode.ENHANCE_YOUR_CALM)
        for stream in self._touched:
            stream.note_unfinished()
        self._touched.clear()
        self._is_reading = False
        self.flush()

    def eof_received(self) -> bool:
        """Let a half-closed client get its pending answers."""
        self._is_closing = True
        return bool(self._streams)

    def pause_writing(self) -> None:
        """Stop reading while answers are not fetched."""
        self._is_choked = True
        self._since_s = self.site.now_s
        if self.transport is not None:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again: the client has fetched the output."""
        self._is_choked = False
        self._since_s = self.site.now_s
        self.flush()
        if self.transport is not None and not self._is_choked:
            self.transport.resume_reading()

    # The site's side.

    def check(self, now_s: float, is_crowded: bool) -> None:
        """See `Guest`."""
        waited_s = now_s - self._since_s
        limits = self.site.limits
        if self._is_lingering or self._is_choked:
            if waited_s > (LINGER_S if self._is_lingering else limits.fetch_timeout_s):
                self.abort()
            return
        for stream in tuple(self._streams.values()):
            if stream.is_too_slow(now_s, limits):
                stream.time_out()
        if now_s > self._until_s:
            self.drain()
        if now_s - self._leaving_s > _LAST_STREAM_AFTER_S:
            self._say_last()
        elif not self._streams:
            is_silent = is_crowded and self._since_s == self._made_s
            limit_s = SILENT_IN_CROWD_S if is_silent else limits.idle_timeout_s
            if self._session.is_amid_head:
                limit_s = limits.head_timeout_s
            if waited_s > limit_s:
                self._say_last()
        self.flush()

    def drain(self) -> None:
        """See `Guest`."""
        if self._leaving_s == inf and not self._is_last_said:
            self._leaving_s = self.site.now_s
            self._session.announce_end()
            self.flush()

    def close(self) -> None:
        """See `Guest`."""
        if self.transport is not None:
            self._say_last()
            self.flush()
            self._is_closing = True
            self.transport.close()

    @property
    def is_idle(self) -> bool:
        """See `Guest`."""
        return not (self._streams or self._is_choked or self._session.is_amid_head)

    # The session's side.

    def on_head(self, stream_id: int, fields: bytes | None, call_timeout: bytes) -> None:
        """Open a stream."""
        site = self.site
        self._since_s = site.now_s
        stream = Stream(self, stream_id, call_timeout)
        self._streams[stream_id] = stream
        if self._is_last_said or self._is_closing:
            self.reset(stream, ErrorCode.REFUSED_STREAM)
            return
        if self._held_bytes > self._max_held_bytes:
            site.on_refusal(Refusal.OVER_BUDGET)
            self.reset(stream, ErrorCode.REFUSED_STREAM)
            return
        head = None if fields is None else site.heads.of_fields(fields)
        if head is not None and fields is not None:
            self._touched.append(stream)
            stream.open(head, len(fields))
        elif fields is None:
            stream.refuse(NO_HEAD, Refusal.HEAD_TOO_LARGE)
        else:
            self._open(stream, fields)

    def _open(self, stream: Stream, fields: bytes) -> None:
        head = head_of_fields(fields)
        if isinstance(head, Refusal):
            stream.refuse(NO_HEAD, head)
            return
        if self.site.limits.is_too_long(len(fields), head.url):
            stream.refuse(head, Refusal.HEAD_TOO_LARGE)
            return
        self._touched.append(stream)
        stream.open(head, len(fields))
        is_waiting = expects_continue(head)
        if isinstance(is_waiting, Refusal):
            stream.refuse(head, is_waiting)
        elif is_waiting:
            self._session.encourage(stream.stream_id)
        else:
            self.site.heads.learn_fields(fields, head)

    def on_body(self, stream_id: int, chunk: bytes) -> None:
        """Take a part of a body."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.is_begun:
            return
        self.hold(stream, len(chunk))
        if self._held_bytes > self._max_held_bytes:
            self.site.on_refusal(Refusal.OVER_BUDGET)
            self.reset(stream, ErrorCode.ENHANCE_YOUR_CALM)
        else:
            stream.add(chunk)
            self._touched.append(stream)

    def on_end(self, stream_id: int) -> None:
        """Begin a request's turn."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.is_begun:
            self.let_go(stream)
            stream.begin()

    def on_close(self, stream_id: int, code: int) -> None:
        """Forget a stream; count it if it was reset."""
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self.let_go(stream)
            stream.forget()
        if code:
            self._note_reset()

    # The streams' side.

    def hold(self, stream: Stream, size: int) -> None:
        """Count bytes that are held for a stream."""
        stream.held_bytes += size
        self._held_bytes += size

    def let_go(self, stream: Stream) -> None:
        """Stop counting a stream's bytes."""
        self._held_bytes -= stream.held_bytes
        stream.held_bytes = 0

    def respond(self, stream: Stream, head: bytes, body: bytes | None, trailers: bytes) -> None:
        """
        Answer a stream's request.

        Args:
            stream: The request's stream.
            head: Fields.
            body: `None` or empty: no body.
            trailers: Fields; empty: no trailers.
        """
        if self.transport is None:
            return
        if body:
            if self._held_bytes + len(body) > self._max_held_bytes and not self._is_reading:
                self.flush()  # answers that the client takes are not held
                if self._held_bytes + len(body) > self._max_held_bytes:
                    self.site.on_refusal(Refusal.OVER_BUDGET)
                    self.reset(stream, ErrorCode.ENHANCE_YOUR_CALM)
                    return
            self.hold(stream, len(body))
        self._session.respond(stream.stream_id, head, body, trailers or None)
        self._will_flush()

    def reset(self, stream: Stream, code: int) -> None:
        """Reset a stream."""
        self._session.reset(stream.stream_id, code)
        # Forget the stream now: the session may report it later, or never.
        if self._streams.pop(stream.stream_id, None) is not None:
            self.let_go(stream)
            stream.forget()
        self._will_flush()

    def client_names(self) -> frozenset[str] | None:
        """Return the names in the client's certificate, read once; see `Asker`."""
        if not self._is_client_read and self.transport is not None:
            self._client_names = self.site.names_of_client(self.transport)
            self._is_client_read = True
        return self._client_names

    def abort(self) -> None:
        """Close at once; drop buffered output."""
        if self.transport is not None:
            self._is_closing = True
            self.transport.abort()

    def flush(self) -> None:
        """Write pending output; close an ending connection after its last answer."""
        self._is_dirty = False
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        while not self._is_choked:
            data = self._session.output(_WRITE_BYTES)
            if not data:
                break
            transport.write(data)
        if self._session.is_broken and not self._is_lingering:
            self.site.on_refusal(Refusal.BAD_HTTP)
            self._linger()
        if (
            not self._streams
            and not self._is_choked
            and not self._is_lingering
            and (self._is_last_said or self._is_closing or self._session.is_over)
        ):
            self._is_closing = True
            transport.close()

    # Ours.

    def _will_flush(self) -> None:
        if not self._is_reading and not self._is_dirty:
            self._is_dirty = True
            self._http2.will_flush(self)

    def _say_last(self) -> None:
        if not self._is_last_said:
            self._is_last_said = True
            self._session.go_away(ErrorCode.NO_ERROR)

    def _hang_up(self, code: int) -> None:
        """Send the reason, then close."""
        if not self._is_lingering:
            self._session.go_away(code)
            self._is_last_said = True
            self._linger()

    def _linger(self) -> None:
        """Read and discard for a moment: a close with unread bytes would be a reset."""
        transport = self.transport
        if self._is_lingering or transport is None:
            return
        self._is_lingering = self._is_closing = True
        self._since_s = self.site.now_s
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.forget()
        self.flush()
        if transport.can_write_eof() and not transport.is_closing():
            transport.write_eof()

    def _note_reset(self) -> None:
        """Count a stream that was reset; detect a flood of them."""
        limits, now_s = self._http2.limits, self.site.now_s
        left = self._resets - limits.resets_per_s * (now_s - self._resets_at_s)
        self._resets = max(0.0, left) + 1
        self._resets_at_s = now_s
        if self._resets > limits.max_resets:
            # The connection ends when the session has returned.
            self._is_flood = True
