"""
An HTTP/2 stream: a request and its turn.

    opened -> parts of the body -> begun -> answered -> closed by the session
              `is_too_slow` checks the time of each

A request not completed by its first bytes counts among the worker's unfinished ones, its head too:
repeated fields cost the client only a byte each.
"""

from typing import TYPE_CHECKING, Final

from rtb.server.http.request_heads import Head
from rtb.server.http.request_reader import Limits, add_piece
from rtb.server.http.turn import Asker, Turn
from rtb.server.http.unfinished import Part
from rtb.server.http2.fields import fields_of_lines
from rtb.server.http2.session import ErrorCode
from rtb.server.metrics.layout import Refusal

if TYPE_CHECKING:
    from rtb.server.http2.connection import Http2Connection

NO_HEAD: Final = Head(b"", b"", {}, b"", b"", wants_gzip=False, is_last=False, body_bytes=0)


class Stream(Asker, Part):
    """
    A request on its way.

    Args:
        connection: The stream's connection.
        stream_id: The stream's number.
        call_timeout: The request's `grpc-timeout`, empty if absent.
    """

    __slots__ = (
        "_body",
        "_body_bytes",
        "_call_timeout",
        "_connection",
        "_head",
        "_head_bytes",
        "_is_answered",
        "_is_counted",
        "_more",
        "_since_s",
        "_turn",
        "held_bytes",
        "is_begun",
        "stream_id",
    )

    def __init__(self, connection: "Http2Connection", stream_id: int, call_timeout: bytes) -> None:
        self._connection = connection
        self._head = NO_HEAD
        self._head_bytes = 0
        self._body = b""
        self._more: list[bytes] | None = None
        self._body_bytes = 0
        self._turn: Turn | None = None
        self._since_s = connection.site.now_s
        self._is_answered = False
        self._is_counted = False
        self.stream_id = stream_id
        self._call_timeout = call_timeout
        self.held_bytes = 0
        """Bytes of its unfinished body, then of its unfetched answer."""
        self.is_begun = False
        """Its turn has begun, or it is gone; more body is ignored."""

    # The connection's side.

    def open(self, head: Head, head_bytes: int) -> None:
        """Take the request's head, and the size of its fields."""
        self._head = head
        self._head_bytes = head_bytes

    def add(self, chunk: bytes) -> None:
        """Take a part of the body."""
        self._body_bytes += len(chunk)
        if self._body_bytes > self._connection.site.limits.max_body_bytes:
            self.refuse(self._head, Refusal.BODY_TOO_LARGE)
        elif not self._body:
            self._body = chunk
        elif self._more is None:
            self._more = [chunk]
        else:
            add_piece(self._more, chunk)

    def note_unfinished(self) -> None:
        """Count the request as unfinished, unless complete or gone."""
        if not self.is_begun:
            self._is_counted = True
            size = self._head_bytes + self._body_bytes
            self._connection.site.unfinished.note(self, size)

    def begin(self) -> None:
        """Begin the turn: the request is complete."""
        head, body = self._head, self._body
        if self._more is not None:
            body += b"".join(self._more)
        self._end_request()
        self._turn = turn = self._connection.site.new_turn_of_stream(self, head)
        turn.begin(head, body)

    def refuse(self, head: Head, refusal: Refusal) -> None:
        """Answer with a refusal, and ignore the rest of the request."""
        self._end_request()
        self._connection.let_go(self)
        self._turn = turn = self._connection.site.new_turn_of_stream(self, head)
        turn.refuse(refusal)

    def is_too_slow(self, now_s: float, limits: Limits) -> bool:
        """Tell whether body or answer moves too slowly."""
        if not self.is_begun:
            return now_s - self._since_s > limits.body_timeout_s
        return self._is_answered and now_s - self._since_s > limits.fetch_timeout_s

    def time_out(self) -> None:
        """End the stream: it takes too long."""
        if self.is_begun:
            self._connection.reset(self, ErrorCode.CANCEL)
        else:
            self.refuse(self._head, Refusal.TOO_SLOW)

    def give_up(self) -> None:
        """See `Part`."""
        self.refuse(self._head, Refusal.TOO_MANY_UNFINISHED)

    def forget(self) -> None:
        """Abandon the turn: no client waits for its answer."""
        self._end_request()
        turn, self._turn = self._turn, None
        if turn is not None and not self._is_answered:
            turn.abandon()

    # The application's side.

    def answer(self, turn: Turn, head: bytes, body: bytes | None) -> None:
        """Write the answer, unless the stream is gone."""
        fields = fields_of_lines(head)
        if body is not None:
            fields += b"content-length\0%d\0" % len(body)
        self._answer(turn, fields, body, b"")

    def answer_call(self, turn: Turn, head: bytes, body: bytes, trailers: bytes) -> None:
        """See `Asker`."""
        self._answer(turn, fields_of_lines(head), body, fields_of_lines(trailers))

    def _end_request(self) -> None:
        """Keep nothing of the request, and take nothing more."""
        self.is_begun = True
        self._body, self._more = b"", None
        if self._is_counted:
            self._is_counted = False
            self._connection.site.unfinished.forget(self)

    def _answer(self, turn: Turn, fields: bytes, body: bytes | None, trailers: bytes) -> None:
        if turn is not self._turn:
            return  # its stream is gone
        self._is_answered = True
        self._since_s = self._connection.site.now_s
        self._connection.respond(self, fields, body, trailers)

    @property
    def is_http2(self) -> bool:
        """See `Asker`."""
        return True

    @property
    def call_timeout(self) -> bytes:
        """See `Asker`."""
        return self._call_timeout

    def note_refusal(self, refusal: Refusal) -> None:
        """See `Asker`."""
        self._connection.site.on_refusal(refusal)

    def client_names(self) -> frozenset[str] | None:
        """See `Asker`."""
        return self._connection.client_names()

    def abort(self) -> None:
        """Reset this stream alone."""
        self._connection.reset(self, ErrorCode.INTERNAL_ERROR)
