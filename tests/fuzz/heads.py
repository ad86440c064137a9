"""
What comes on a connection of the bid listener, before it is a bid: HTTP heads, bodies, gzip.

The whole edge reads it, on a transport that keeps what is written, and an application that
sends each body back. Heads that were seen before are looked up and not parsed, so every
stream is read twice on one site, in the same pieces, and once by the interpreted twin: three
times the same answers. h11 says where it reads otherwise.
"""

import asyncio
import gzip
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import h11

from rtb.server.http import http11, protocol, request_reader
from tests.fuzz.pieces import pieces_of
from tests.fuzz.target import Check, Target
from tests.fuzz.twins import is_asked, twins_of

_MAX_BODY_BYTES = 600
_ENDED = b"Connection: close"


class KeptTransport(asyncio.Transport):
    """Keeps what is written; once it is closed, or its end is written, nothing more is."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_over = False

    def write(self, data: Any) -> None:
        assert not self.is_over, "written behind the end"
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.is_over

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_over = True

    def close(self) -> None:
        self.is_over = True

    def abort(self) -> None:
        self.is_over = True

    def pause_reading(self) -> None:
        """No piece is so many requests that it matters."""

    def resume_reading(self) -> None:
        """Likewise."""


class _Edge:
    """
    A site whose application sends each body back, unfolded.

    Args:
        protocol: The module, compiled or its twin.
        reader: Likewise.
        http11: Likewise.
    """

    def __init__(self, protocol: Any, reader: Any, http11: Any) -> None:
        self._protocol = protocol
        self._limits = reader.Limits(max_head_bytes=2_000, max_body_bytes=_MAX_BODY_BYTES)
        self._taken: list[tuple[bytes, bytes, bytes]] = []
        self._refused: list[str] = []
        self._bug: Exception | None = None
        # One class for all sites: the type of a compiled class's heirs is never let go of.
        self._turn = self._echo(http11)

    def site(self) -> Any:
        """Make a site that has seen no head."""
        return self._protocol.Site(
            self._turn,
            self._limits,
            lambda refusal: self._refused.append(refusal.value),
            self._note_bug,
        )

    def read(self, site: Any, pieces: Sequence[bytes]) -> tuple[Any, ...]:
        """Read one connection; return what was taken, refused and written."""
        self._taken, self._refused = [], []
        transport = KeptTransport()
        connection = cast("asyncio.Protocol", site.connection())
        connection.connection_made(transport)
        for piece in pieces:
            if not transport.is_over:
                connection.data_received(piece)
        if not transport.is_over:
            connection.eof_received()
        connection.connection_lost(None)
        if self._bug is not None:
            bug, self._bug = self._bug, None
            raise bug
        assert not site.connections, "the site remembers a client that is gone"
        return self._taken, self._refused, b"".join(transport.written)

    def _note_bug(self, bug: Exception) -> None:
        self._bug = bug

    def _echo(self, http11: Any) -> Any:
        edge = self
        ok, no = http11.head_of(200, "enriched"), http11.head_of(400, "malformed")

        class Echo(self._protocol.Turn):  # type: ignore[misc, name-defined]
            def begin(self, head: Any, body: bytes) -> None:
                edge._taken.append((head.method, head.url, body))
                assert len(body) <= _MAX_BODY_BYTES
                try:
                    plain = body
                    if head.encoding:
                        plain = http11.unfold(body, head.encoding, _MAX_BODY_BYTES)
                except http11.BadEncoding:
                    self.answer(no, b"")
                except http11.TooLarge:
                    self.answer(no, b"too large")
                else:
                    assert len(plain) <= _MAX_BODY_BYTES
                    self.answer(ok, plain)

        return Echo


_OURS = _Edge(protocol, request_reader, http11)


@contextmanager
def _checking() -> Iterator[Check]:
    twins = twins_of(
        "rtb.server.http.protocol", "rtb.server.http.request_reader", "rtb.server.http.http11"
    )

    twin = _Edge(*twins)

    def check(data: bytes) -> Hashable:
        site, pieces = _OURS.site(), pieces_of(data)
        first = _OURS.read(site, pieces)
        again = _OURS.read(site, pieces)
        assert again == first, "a head that was seen before changes the answer"
        if is_asked(data):
            assert twin.read(twin.site(), pieces) == first, "interpreted, the answer is another"
        taken, refused, written = first
        answers = _answers(written)
        assert len(answers) == len(taken) + len(refused), "not one answer a request"
        assert len(refused) <= 1, "refused twice"
        closing = [n for n, head in enumerate(answers) if _ENDED in head]
        assert closing in ([], [len(answers) - 1]), "an answer behind the last"
        return len(taken), tuple(refused), tuple(head.split(b" ", 2)[1] for head in answers[:3])

    yield check


def _answers(written: bytes) -> list[bytes]:
    """Return the heads of what was written, which is nothing but whole answers."""
    heads = []
    while written:
        head, end, written = written.partition(b"\r\n\r\n")
        assert end, "half a head"
        assert head.startswith(b"HTTP/1.1 "), "no answer"
        if head.startswith(b"HTTP/1.1 100 "):
            continue
        heads.append(head)
        lengths = [
            int(line[16:]) for line in head.split(b"\r\n") if line[:16] == b"Content-Length: "
        ]
        [length] = lengths or [0]
        assert len(written) >= length, "half a body"
        written = written[length:]
    return heads


def _agrees_with_h11(data: bytes) -> None:
    """
    Where both read a first request whole, they read the same one.

    One of two that stand one behind the other is where requests are smuggled.
    """
    taken, refused, _ = _OURS.read(_OURS.site(), [data])
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    parser.receive_data(data)
    body = b""
    head: h11.Request | None = None
    try:
        while True:
            event = parser.next_event()
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                break
    except h11.RemoteProtocolError:
        return  # it is stricter, here and there
    if isinstance(event, h11.EndOfMessage) and head is not None and taken and not refused:
        method, url, read = taken[0]
        assert (method, url, read) == (head.method, head.target, body), "h11 reads another request"


def _request(body: bytes, *lines: bytes, start: bytes = b"POST /openrtb2/enrich HTTP/1.1") -> bytes:
    length = b"Content-Length: %d" % len(body)
    return b"\r\n".join((start, b"Host: a", length, *lines, b"", body))


def _seeds() -> Sequence[bytes]:
    chunked = (
        b"POST /openrtb2/enrich HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\n{}\r\n0\r\n\r\n"
    )
    folded = gzip.compress(b'{"id":"1"}', mtime=0)
    return [
        _request(b"{}"),
        _request(b"{}") * 3,
        chunked,
        chunked + _request(b"{}"),
        _request(folded, b"Content-Encoding: gzip"),
        _request(gzip.compress(b"x" * 4_000, mtime=0), b"Content-Encoding: gzip"),
        _request(b"{}", b"Expect: 100-continue"),
        _request(b"{}", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"),
        _request(b"{}", b"Accept-Encoding: gzip;q=0.5", b"x-openrtb-version: 2.6"),
        _request(b"{}", b"Connection: close") + _request(b"{}"),
        _request(b"", start=b"GET /openrtb25/dsp-a?gzip=1 HTTP/1.0"),
        _request(b"{}", b"X: " + b"x" * 1_000, b"Y: " + b"y" * 1_000),
        b"\r\n" + _request(b"x" * 700),
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\nxyz",
        chunked.replace(b"2\r\n", b"2;a=b\r\n").replace(b"0\r\n\r\n", b"0\r\nT: 1\r\n\r\n"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]


_TOKENS = (
    b"\r\n", b"\r\n\r\n", b"\n", b": ", b"Content-Length: 2", b"Content-Length: 0", b"HTTP/1.0",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Connection: close",
    b"Connection: keep-alive", b"Expect: 100-continue", b"Host: b", b"Host:", b"0\r\n\r\n", b"GET ",
    b"Upgrade: h2c\r\nConnection: Upgrade", b"Content-Encoding: gzip",
    b"POST / HTTP/1.1\r\nHost: a",
    b"ffffffff", b";", b",", b"chunked", b"x" * 100, b"Accept-Encoding: gzip",
)  # fmt: skip

TARGETS = (
    Target(
        "head", _seeds, _checking, (), _TOKENS, ("rtb/server/http/",),
        max_bytes=4_000, slowest_ms=30.0, oracle=_agrees_with_h11, oracle_each=16,
    ),
)  # fmt: skip
