"""
Heads of requests, and those that have been seen before.

A keep-alive client says the same thing each time: the same path, the same
headers, at most another `Content-Length`. A head that the parser has read before
is therefore looked up by its bytes and not read again, which saves a sixth of a
bid's instructions. What comes of it can't differ: between two requests the
parser is in one state, and what it makes of the same bytes in the same state is
the same. So a head is learnt only when it came alone, from its first byte to the
last one of its body, and only one that keeps the connection.

Heads that differ each time (a trace id) are learnt in vain, so after a table full
of them that nobody asked for again, none is learnt for a while.
"""

from typing import Final, final

from mypy_extensions import mypyc_attr

_END: Final = b"\r\n\r\n"

MAX_HEADS: Final = 4096
MAX_HEAD_BYTES: Final = 1024
"""A worker's table takes 8 MB at most."""

_REST: Final = 16 * MAX_HEADS
"""So many requests come and go before a table that was of no use is tried again."""


def header_of(headers: dict[bytes, bytes], name: bytes) -> bytes:
    """Return a header by its name in lower case; empty if it is not there."""
    for key, value in headers.items():
        if key.lower() == name:
            return value
    return b""


@final
@mypyc_attr(acyclic=True)
class Head:
    """
    The head of one request, as far as it changes anything here. Never changed itself.

    Attributes:
        method: In capitals, as it came.
        url: The request's target.
        headers: By name as spelled.
        encoding: `Content-Encoding`; empty if not said.
        extra: Lines of the answer's head that the request asked for.
        wants_gzip: The request takes a gzip answer.
        is_last: The connection ends with the answer.
        body_bytes: Of the body that came with it.
    """

    __slots__ = (
        "body_bytes",
        "encoding",
        "extra",
        "headers",
        "is_last",
        "method",
        "url",
        "wants_gzip",
    )

    def __init__(
        self,
        method: bytes,
        url: bytes,
        headers: dict[bytes, bytes],
        encoding: bytes,
        extra: bytes,
        wants_gzip: bool,
        is_last: bool,
        body_bytes: int,
    ) -> None:
        self.method: Final = method
        self.url: Final = url
        self.headers: Final = headers
        self.encoding: Final = encoding
        self.extra: Final = extra
        self.wants_gzip: Final = wants_gzip
        self.is_last: Final = is_last
        self.body_bytes: Final = body_bytes

    def header(self, name: bytes) -> bytes:
        """Return a header by its name in lower case; empty if the request has none."""
        return header_of(self.headers, name)


@final
class Heads:
    """The heads that a worker has seen, by their bytes."""

    __slots__ = ("_hits", "_resting", "_table")

    def __init__(self) -> None:
        self._table: dict[bytes, Head] = {}
        self._hits = 0
        self._resting = 0

    def of(self, data: bytes) -> Head | None:
        """
        Return the head of a request that is the whole of `data`, if it is known.

        Args:
            data: What came, the first byte of a request first.
        """
        if not self._table:
            return None
        end = data.find(_END) + len(_END)
        head = self._table.get(data[:end])
        if head is None or len(data) - end != head.body_bytes:
            return None
        self._hits += 1
        return head

    def learn(self, data: bytes, head: Head) -> None:
        """
        Keep what the parser made of a request, if it may stand for the next such one.

        Args:
            data: All that came, from the request's first byte on.
            head: Of the first request in it, or of a later one, which is not kept.
        """
        end = data.find(_END) + len(_END)
        if (
            head.is_last
            or end > MAX_HEAD_BYTES
            or len(data) - end != head.body_bytes
            # A body that ends by other means than its length can't be known to end here.
            or head.header(b"content-length") != b"%d" % head.body_bytes
            or head.header(b"transfer-encoding")
        ):
            return
        if self._resting:
            self._resting -= 1
            return
        if len(self._table) == MAX_HEADS:
            if self._hits < MAX_HEADS:
                self._resting = _REST
            self._table.clear()
            self._hits = 0
        self._table[data[:end]] = head
