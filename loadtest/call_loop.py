"""
Calls of gRPC in an open loop: `loadtest.open_loop` over HTTP/2, some streams on each connection.

The package h2 takes some 150 µs of CPU a call: too much for a bench (loadtest/bench/h2load.py), not
for 1,000 calls a second. A call has the ARTF reference host's time-out, 100 ms.
"""

import socket
import time
from collections.abc import Sequence

from h2.config import H2Configuration
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

from loadtest.artf.calls import PATH
from loadtest.open_loop import READ_BYTES, Loop, Place, Sample
from rtb.server.http2.hyper import FarewellConnection

CONNECTIONS = 8
_STREAMS = 8
_WINDOW_BYTES = 1 << 30
_MIN_WINDOW_BYTES = 1 << 20

_HEAD = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", PATH),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
    ("grpc-timeout", "100m"),
)

Lines = tuple[tuple[bytes, bytes], ...]
"""Fields of a head, or trailers."""

Reply = tuple[Lines, bytes, Lines]
"""A whole answer: head, body and trailers."""


def call_loop(
    address: tuple[str, int], sent: Sequence[bytes], *, due_ns: Sequence[int]
) -> list[Sample[bytes]]:
    """
    Call when calls are due, and wait for all answers; blocks the thread.

    Args:
        address: Host and port of the service.
        sent: Bodies of calls, sent in turn.
        due_ns: From the start, ascending.

    Returns:
        A sample for each call, as `open_loop`; its answer is as of `text_of`.

    Raises:
        loadtest.open_loop.NotAnswered: See there.
    """
    return _CallLoop(address, sent, due_ns).run(CONNECTIONS)


class _Stream(Place):
    __slots__ = ("body", "head", "link", "trailers")

    def __init__(self, link: "_Link") -> None:
        super().__init__()
        self.link = link
        self.clear()

    def clear(self) -> None:
        self.head = self.trailers = b""
        self.body = b""


class _Link:
    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.h2 = FarewellConnection(H2Configuration(client_side=True, header_encoding=None))
        self.is_leaving = False
        self.streams: dict[int, _Stream] = {}
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(_WINDOW_BYTES)
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())


class _CallLoop(Loop[bytes, _Stream]):
    def __init__(
        self, address: tuple[str, int], sent: Sequence[bytes], due_ns: Sequence[int]
    ) -> None:
        super().__init__(address, len(sent), due_ns)
        self._sent = sent
        self._fd_to_link: dict[int, _Link] = {}

    def open(self, connections: int) -> None:
        links = [self._link() for _ in range(connections)]
        self.free.extend(_Stream(link) for _ in range(_STREAMS) for link in links)

    def close(self) -> None:
        for link in self._fd_to_link.values():
            link.socket.close()

    def send(self, place: _Stream) -> None:
        place.clear()
        if place.link.is_leaving:
            place.link = self._successor(place.link)
        link = place.link
        stream_id = link.h2.get_next_available_stream_id()
        link.streams[stream_id] = place
        link.h2.send_headers(stream_id, _HEAD)
        link.h2.send_data(stream_id, self._sent[place.request], end_stream=True)
        try:
            link.flush()
        except OSError:
            self._lose(link, time.monotonic_ns())

    def receive(self, fd: int, at_ns: int) -> None:
        link = self._fd_to_link[fd]
        try:
            data = link.socket.recv(READ_BYTES)
            events = link.h2.receive_data(data) if data else []
            if link.h2.inbound_flow_control_window < _MIN_WINDOW_BYTES:
                link.h2.increment_flow_control_window(_WINDOW_BYTES)
            link.flush()
        except (OSError, ProtocolError):
            data, events = b"", []
        for event in events:
            self._take(link, event, at_ns)
        if not data:
            self._lose(link, at_ns)

    def _take(self, link: _Link, event: Event, at_ns: int) -> None:
        if isinstance(event, ConnectionTerminated):
            link.is_leaving = True
            return
        stream_id: int = getattr(event, "stream_id", None) or 0
        stream = link.streams.get(stream_id)
        if stream is None:
            return
        match event:
            case ResponseReceived():
                stream.head = _lines(event.headers)
            case TrailersReceived():
                stream.trailers = _lines(event.headers)
            case DataReceived():
                stream.body += event.data
            case StreamEnded():
                del link.streams[stream_id]
                self.ended(stream, text_of(stream.head, stream.trailers, stream.body), at_ns)
            case StreamReset():
                del link.streams[stream_id]
                self.ended(stream, None, at_ns)
            case _:
                pass

    def _successor(self, link: _Link) -> _Link:
        """Return a link that takes over the calls of one that leaves."""
        for other in self._fd_to_link.values():
            if not other.is_leaving and other is not link:
                return other
        return self._link()

    def _lose(self, link: _Link, at_ns: int) -> None:
        """Forget a closed link; its calls in flight are not answered."""
        link.is_leaving = True
        del self._fd_to_link[link.socket.fileno()]
        link.socket.close()
        streams, link.streams = link.streams, {}
        for stream in streams.values():
            self.ended(stream, None, at_ns)

    def _link(self) -> _Link:
        link = _Link(self.opened())
        self._fd_to_link[link.socket.fileno()] = link
        return link


def text_of(head: bytes, trailers: bytes, body: bytes) -> bytes:
    """Return an answer as text: lines of the head, of the trailers, and the body."""
    return b"%b\r\n%b\r\n%b" % (head, trailers, body)


def _lines(fields: object) -> bytes:
    return b"".join(b"%b: %b\r\n" % field for field in fields)  # type: ignore[attr-defined]
