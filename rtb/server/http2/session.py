"""
HTTP/2's frames and header compression, behind one small interface.

    bytes -> Session.receive -> StreamTaker.on_head, on_body, on_end, on_close
    bytes <- Session.output  <- Session.respond, reset, go_away

libnghttp2 implements it if compiled in (nghttp2.pyx), else the package h2 (hyper.py), at thirty
times the CPU. No code of ours reads or writes frames.

A head's fields are one `bytes`, `name NUL value NUL` each (HTTP/2 forbids the NUL in both: RFC
9113, 8.2.1), so a single look-up finds a known head.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Final, NamedTuple, Protocol

WINDOW_BYTES: Final = 1 << 30
"""Of a connection, limited by its streams' windows and our memory limit."""


class ErrorCode(IntEnum):
    """The codes of RFC 9113, 7, that we send."""

    NO_ERROR = 0x0
    INTERNAL_ERROR = 0x2
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    ENHANCE_YOUR_CALM = 0xB


class SessionLimits(NamedTuple):
    """The limits of a peer, told or only enforced."""

    max_head_bytes: int = 16_384
    """As RFC 9113, 6.5.2, counts: 32 for each field besides its name and value."""

    max_streams: int = 1_000
    window_bytes: int = 262_144
    """Of each stream."""

    max_resets: int = 4_000
    resets_per_s: int = 1_000
    """
    Streams that end before their answer: at once, and each second after. A bidder that gives up on
    all its calls stays below; CVE-2023-44487 had about a hundred times as many.
    """

    max_idle_frames: int = 10_000
    """Frames without a request or a part of its body; each request allows more."""

    idle_frames_a_request: int = 100


class Broken(Exception):
    """The peer breaks HTTP/2 or a limit: the connection is over."""


class StreamTaker:
    """Takes a `Session`'s events."""

    __slots__ = ()

    def on_head(self, stream_id: int, fields: bytes | None, call_timeout: bytes) -> None:
        """
        Take the head of a request.

        Args:
            stream_id: The new stream.
            fields: Without `content-length` and `grpc-timeout`, which vary; `None`: the head
                exceeds the limit.
            call_timeout: `grpc-timeout`, empty if absent.
        """
        raise NotImplementedError

    def on_body(self, stream_id: int, chunk: bytes) -> None:
        """Take a part of a request's body."""
        raise NotImplementedError

    def on_end(self, stream_id: int) -> None:
        """Take the end of a request, after its body if any."""
        raise NotImplementedError

    def on_close(self, stream_id: int, code: int) -> None:
        """Forget a stream: its answer is written, or either side has reset it."""
        raise NotImplementedError


class Session(Protocol):
    """A connection's state, on the server's side."""

    @property
    def idle_frames(self) -> int:
        """Frames as `max_idle_frames` counts, less requests' allowance."""
        ...

    @property
    def is_amid_head(self) -> bool:
        """Whether a head is known to be incomplete."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether the peer has announced that no more requests follow."""
        ...

    @property
    def is_broken(self) -> bool:
        """Whether the peer was sent a connection error; nothing more is read."""
        ...

    def receive(self, data: bytes) -> None:
        """
        Take received bytes.

        Raises:
            Broken: No more can be read; the pending output has the reason.
            Exception: Any exception from the taker.
        """
        ...

    def respond(
        self, stream_id: int, fields: bytes, body: bytes | None, trailers: bytes | None
    ) -> None:
        """
        Answer a request; of an unfinished one, the peer is told to send no more.

        Args:
            stream_id: A closed stream is ignored.
            fields: Of the head, `:status` first.
            body: `None` or empty: no body.
            trailers: Fields after the body.
        """
        ...

    def encourage(self, stream_id: int) -> None:
        """Send 100 Continue."""
        ...

    def reset(self, stream_id: int, code: int) -> None:
        """Reset a stream."""
        ...

    def announce_end(self) -> None:
        """Tell the peer to open no more streams; those on their way are served."""
        ...

    def go_away(self, code: int) -> None:
        """Tell the peer the last stream that is served."""
        ...

    def output(self, max_bytes: int) -> bytes:
        """Return pending output, about `max_bytes` at most; empty: none."""
        ...

    def close(self) -> None:
        """Release the taker."""
        ...


NewSession = Callable[[StreamTaker, SessionLimits], Session]


def new_session_of() -> NewSession:
    """Return libnghttp2's sessions if compiled in, else h2's."""
    try:
        from rtb.server.http2.nghttp2 import (  # noqa: PLC0415 - only if compiled in
            Nghttp2Session,
        )
    except ImportError:
        from rtb.server.http2.hyper import HyperSession  # noqa: PLC0415 - an import of 30 ms

        return HyperSession
    return Nghttp2Session
