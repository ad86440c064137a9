"""
A request and its answer, over any version of HTTP.

A `Turn` subclass is the application: the bid path (bids.py), or the benchmark's baseline
(`loadtest.bench.peers`). A turn's `Asker`, a connection of HTTP/1.1 or a stream of HTTP/2, writes
its answer.
"""

from mypy_extensions import mypyc_attr, trait

from rtb.server.http import http11
from rtb.server.http.request_heads import Head
from rtb.server.metrics.layout import Refusal


@trait
class Asker:
    """The source of a request, to which the answer returns."""

    def answer(self, turn: "Turn", head: bytes, body: bytes | None) -> None:
        """
        Write a turn's answer, in its order.

        Args:
            turn: The answered turn.
            head: Lines with their ends, the status first.
            body: `None`: neither a body nor its length.
        """
        raise NotImplementedError

    def answer_call(self, turn: "Turn", head: bytes, body: bytes, trailers: bytes) -> None:
        """
        Answer a gRPC call, which HTTP/1.1 can't.

        Args:
            turn: The answered turn.
            head: As in `answer`.
            body: Empty, or messages.
            trailers: Lines after the body; empty: neither body nor trailers.
        """
        raise NotImplementedError

    @property
    def is_http2(self) -> bool:
        """Whether the connection speaks HTTP/2."""
        return False

    @property
    def call_timeout(self) -> bytes:
        """The `grpc-timeout` of a call; empty if absent."""
        return b""

    def note_refusal(self, refusal: Refusal) -> None:
        """Count a refused request."""
        raise NotImplementedError

    def client_names(self) -> frozenset[str] | None:
        """Return the names in the client's certificate; `None`: no certificate."""
        raise NotImplementedError

    def abort(self) -> None:
        """Break off without an answer."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)  # as the baseline of the benchmark is
class Turn:
    """
    A request, and its answer's place in the connection's order.

    Args:
        connection: The request's source.
        head: Of the request.
    """

    __slots__ = ("connection", "extra", "is_last", "payload", "wants_gzip")

    def __init__(self, connection: Asker, head: Head) -> None:
        self.connection = connection
        self.extra = head.extra
        self.wants_gzip = head.wants_gzip
        self.is_last = head.is_last
        self.payload: bytes | None = None

    def begin(self, head: Head, body: bytes) -> None:
        """Answer now, or arrange for a single later call of `answer`."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Drop the request: the client has disconnected."""

    def answer(self, head: bytes, body: bytes) -> None:
        """
        Answer the request.

        Args:
            head: As of `http11.head_of`.
            body: May be empty.
        """
        extra = self.extra
        if self.wants_gzip and len(body) >= http11.MIN_GZIP_BYTES:
            body = http11.fold(body)
            extra += http11.ENCODED
        self.connection.answer(self, head + extra, body)

    def answer_nothing(self, head: bytes) -> None:
        """Answer 204, with neither a body nor its length (RFC 9110, 8.6)."""
        self.connection.answer(self, head + self.extra, None)

    def answer_call(self, head: bytes, body: bytes, trailers: bytes) -> None:
        """Answer a gRPC call; see `Asker.answer_call`."""
        # Without extra lines the same object, whose hash is known: heads are translated by look-up.
        if self.extra:
            head += self.extra
        self.connection.answer_call(self, head, body, trailers)

    def refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal, without the bid path."""
        self.connection.note_refusal(refusal)
        self.answer(http11.REFUSAL_HEADS[refusal], b"")
