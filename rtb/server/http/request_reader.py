"""
From a connection's bytes to requests: HTTP/1.1 on httptools, within limits.

    bytes -> Reader -> head seen before?  -> Taker.take(head, body)
                       llhttp, callbacks

Head and body, with chunk framing and trailers, have limits in bytes and in time, which counts from
the first byte. All unfinished requests together have a limit as well (`Unfinished`).

`Upgrade` is ignored (RFC 9110, 7.8): some clients offer h2c with each request. The parser, which
would leave the body to that protocol, gets the head again without the header.

Trailers are dropped (RFC 9110, 6.5.1).
"""

import re
from typing import Final, NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from mypy_extensions import mypyc_attr

from rtb.server.http import http11
from rtb.server.http.request_heads import Head, Heads, header_of
from rtb.server.http.unfinished import Part, Unfinished
from rtb.server.metrics.layout import Refusal

_BETWEEN, _HEAD, _BODY = range(3)

MAX_HEADERS: Final = 100

_MAX_PIECES: Final = 256
"""Of a body, before they are joined."""

_LINE_BYTES: Final = 4
"""Of a header's line, besides its name and value."""

_GZIP: Final = (b"gzip", b"x-gzip")


class Limits(NamedTuple):
    """The limits of a connection, and of all connections together."""

    max_head_bytes: int = 16_384
    max_body_bytes: int = 262_144
    max_pipelined: int = 64
    head_timeout_s: float = 10.0
    body_timeout_s: float = 10.0
    idle_timeout_s: float = 75.0
    fetch_timeout_s: float = 10.0
    """How long a client may leave answers unfetched."""
    max_unfinished_bytes: int = 64 << 20
    """Of all unfinished requests of a worker."""
    long_path: bytes = b""
    """Of requests with all content in the URL; empty: none."""
    max_long_head_bytes: int = 49_152
    """Of a head with that path: a TC string may have 12,000 characters."""

    @property
    def max_any_head_bytes(self) -> int:
        """Of a head with an unknown path."""
        return self.max_long_head_bytes if self.long_path else self.max_head_bytes

    def is_too_long(self, head_bytes: int, url: bytes) -> bool:
        """Tell whether a head exceeds the limit for this URL, or part of a URL."""
        if head_bytes <= self.max_head_bytes:
            return False
        is_long = bool(self.long_path) and url.startswith(self.long_path)
        return not is_long or head_bytes > self.max_long_head_bytes


@mypyc_attr(allow_interpreted_subclasses=True)
class Taker:
    """Takes the requests that a `Reader` reads."""

    __slots__ = ()

    def take(self, head: Head, body: bytes) -> None:
        """Take a complete request."""
        raise NotImplementedError

    def refuse(self, refusal: Refusal) -> None:
        """Refuse further reading, with the reason to the client."""
        raise NotImplementedError

    def encourage(self) -> None:
        """Ask a waiting client (RFC 9110, 10.1.1) to send its body."""
        raise NotImplementedError

    def end(self) -> None:
        """Take no more: the following bytes are no requests to us."""
        raise NotImplementedError


_NO_TAKER: Final = Taker()


class Reader(Part):
    """
    Reads a connection.

    Args:
        taker: Gets each request, and each refusal.
        limits: Of requests.
        heads: The known heads of all connections.
        unfinished: The unfinished requests of all connections.
    """

    __slots__ = (
        "_body",
        "_body_bytes",
        "_data",
        "_encoding",
        "_expects",
        "_extra",
        "_head_bytes",
        "_headers",
        "_heads",
        "_is_counted",
        "_is_new",
        "_is_upgrading",
        "_limits",
        "_lines",
        "_more",
        "_parser",
        "_part_bytes",
        "_phase",
        "_since_s",
        "_taker",
        "_unfinished",
        "_url",
        "_wants_gzip",
    )

    def __init__(self, taker: Taker, limits: Limits, heads: Heads, unfinished: Unfinished) -> None:
        self._taker = taker
        self._unfinished = unfinished
        self._is_counted = False
        self._limits = limits
        self._heads = heads
        self._headers: dict[bytes, bytes] = {}
        self._lines = 0
        self._head_bytes = 0
        self._url = b""
        self._body = b""
        self._more: list[bytes] = []
        self._body_bytes = 0
        self._extra = b""
        self._encoding = b""
        self._wants_gzip = False
        self._expects = False
        self._phase = _BETWEEN
        self._since_s = 0.0
        self._part_bytes = 0
        self._is_upgrading = False
        self._is_new = True  # the parser has no byte of the next request
        self._data = b""  # the received bytes, if a request begins with them
        self._parser: HttpRequestParser | None = HttpRequestParser(self)

    def read(self, data: bytes, now_s: float) -> None:
        """
        Take received bytes, and pass on complete requests at once.

        Raises:
            Exception: Any exception from the taker.
        """
        if self._is_new:
            head = self._heads.of(data)
            if head is not None:
                self._taker.take(head, data[len(data) - head.body_bytes :])
                return
            self._data = data
        self._parse(data, now_s)
        self._data = b""

    def stop(self) -> None:
        """Drop an unfinished request; read and learn nothing more."""
        self._url = self._data = self._body = b""
        self._is_new = True
        self._more.clear()
        self._forget()

    def close(self) -> None:
        """Release parser and taker: each of them and the reader reference each other."""
        self._parser = None
        self._taker = _NO_TAKER
        self._forget()

    def give_up(self) -> None:
        """Refuse the unfinished request to free memory for others."""
        self._refuse(Refusal.TOO_MANY_UNFINISHED)
        self.stop()
        self._headers.clear()

    @property
    def is_amid(self) -> bool:
        """Whether there is a part of a request."""
        return not self._is_new

    def is_too_slow(self, now_s: float) -> bool:
        """Tell whether an unfinished request takes too long."""
        limits = self._limits
        limit_s = limits.head_timeout_s if self._phase == _HEAD else limits.body_timeout_s
        return self.is_amid and now_s - self._since_s > limit_s

    # The parser's side.

    def on_message_begin(self) -> None:
        """Record that the next request has begun."""
        self._is_new = False

    def on_url(self, url: bytes) -> None:
        """Take the request's target, or the next part of it."""
        self._url += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; repeated names count as well."""
        if self._phase == _BODY:
            return  # a trailer
        self._lines += 1
        self._head_bytes += len(name) + len(value) + _LINE_BYTES
        headers = self._headers
        if name in headers and name.lower() in LISTS:
            value = b"%b, %b" % (headers[name], value)
        headers[name] = value

    def on_headers_complete(self) -> None:
        """Evaluate the few headers that matter."""
        headers = self._headers
        parser = self._parser
        if parser is None:
            return
        if self._lines > MAX_HEADERS or self._limits.is_too_long(self._head_bytes, self._url):
            self._refuse(Refusal.HEAD_TOO_LARGE)
        elif parser.should_upgrade() and parser.get_method() != b"CONNECT":
            self._is_upgrading = True
            return
        hosts = 1 if b"Host" in headers else 0
        for name in headers:
            if name not in _PLAIN:
                hosts += self._read_header(name, headers[name])
        if (hosts != 1 and parser.get_http_version() != "1.0") or (
            hosts and not HOST.fullmatch(self._header(b"host"))
        ):
            self._refuse(Refusal.BAD_HTTP)
        self._phase = _BODY
        if self._expects:
            self._expects = False
            self._data = b""  # not learnt: each such request needs its own 100 Continue
            self._expect()

    def on_body(self, chunk: bytes) -> None:
        """Take the body, or the next part of it."""
        if self._body:
            add_piece(self._more, chunk)
        else:
            self._body = chunk
        self._body_bytes += len(chunk)
        if self._body_bytes > self._limits.max_body_bytes:
            self._refuse(Refusal.BODY_TOO_LARGE)
            self._body = b""
            self._more.clear()

    def on_message_complete(self) -> None:
        """Pass the request on."""
        parser = self._parser
        if parser is None or self._is_upgrading:
            return
        body = self._body
        if self._more:
            body += b"".join(self._more)
            self._more.clear()
        head = Head(
            parser.get_method(),
            self._url,
            dict(self._headers),
            self._encoding,
            self._extra,
            self._wants_gzip,
            not parser.should_keep_alive(),
            len(body),
        )
        if self._data:
            self._heads.learn(self._data, head)
        self._url = self._body = self._extra = self._encoding = b""
        self._body_bytes = self._part_bytes = self._phase = 0
        self._lines = self._head_bytes = 0
        self._wants_gzip = False
        self._is_new = True
        self._headers.clear()
        if self._is_counted:
            self._forget()
        self._taker.take(head, body)

    # Ours.

    def _forget(self) -> None:
        self._is_counted = False
        self._unfinished.forget(self)

    def _parse(self, data: bytes, now_s: float) -> None:
        parser = self._parser
        if parser is None:
            return
        rest = self._feed(parser, data)
        while rest is not None:
            if not self._is_upgrading:
                self._taker.end()  # a tunnel would follow, which we don't open
                return
            head = self._without_upgrade(parser)
            self._parser = parser = HttpRequestParser(self)
            self._feed(parser, head)
            rest = self._feed(parser, rest)
        if self.is_amid:
            self._note_part(len(data), now_s)

    def _refuse(self, refusal: Refusal) -> None:
        self._data = b""  # the head must not be learnt
        self._taker.refuse(refusal)

    def _feed(self, parser: HttpRequestParser, data: bytes) -> bytes | None:
        """Return the bytes after a head with `Upgrade`, or `None`."""
        try:
            parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            return data[upgrade.args[0] :]
        except HttpParserError as error:
            # Our callbacks' exception is the parser's context.
            bug = error.__context__
            if isinstance(bug, Exception) and not isinstance(bug, HttpParserError):
                raise bug from None
            self._refuse(Refusal.BAD_HTTP)
        return None

    def _without_upgrade(self, parser: HttpRequestParser) -> bytes:
        """Return the head without `Upgrade`, and reset, to parse again."""
        version = parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (parser.get_method(), self._url, version)]
        lines += [
            b"%b: %b" % (name, value)
            for name, value in self._headers.items()
            if name.lower() != b"upgrade"
        ]
        self._is_upgrading = False
        self._url = b""
        self._headers.clear()
        self._lines = self._head_bytes = 0
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _note_part(self, received: int, now_s: float) -> None:
        limits = self._limits
        phase = self._phase or _HEAD
        if phase != self._phase or not self._part_bytes:
            # The first part of a head counts by its parsed size: earlier bytes are others'.
            self._since_s = now_s
            self._phase = phase
            self._part_bytes = self._head_bytes
        else:
            self._part_bytes += received
        if phase == _HEAD:
            if limits.is_too_long(self._part_bytes, self._url):
                self._refuse(Refusal.HEAD_TOO_LARGE)
        # Chunk framing and trailers count here; only content counts as body.
        elif self._part_bytes > limits.max_head_bytes + 4 * limits.max_body_bytes:
            self._refuse(Refusal.BODY_TOO_LARGE)
        else:
            self._is_counted = True
            self._unfinished.note(self, self._head_bytes + self._body_bytes)

    def _read_header(self, name: bytes, value: bytes) -> int:
        """Evaluate a header; return the number of hosts that it names."""
        match name.lower():
            case b"host":
                return 1
            case b"transfer-encoding":
                self._read_codings(value)
            case b"accept-encoding":
                self._wants_gzip = http11.takes_gzip(value)
            case b"content-encoding":
                self._encoding = value
            case b"x-openrtb-version":
                self._extra += http11.version_line(value)
            case b"expect":
                self._expects = True
            case b"connection":
                # HTTP/1.0 expects this header; in 1.1 it is the default.
                if (
                    value.lower() == b"keep-alive"
                    and self._parser is not None
                    and self._parser.get_http_version() == "1.0"
                ):
                    self._extra += http11.KEEP_ALIVE
            case _:
                if len(_PLAIN) < _MAX_PLAIN:
                    _PLAIN.add(name)
        return 0

    def _read_codings(self, value: bytes) -> None:
        """Check the codings of a body besides chunked, which the parser decodes (RFC 9112, 7)."""
        *codings, _ = [coding.strip().lower() for coding in value.split(b",")]
        if not codings:
            return
        if codings[0] in _GZIP and len(codings) == 1 and not self._header(b"content-encoding"):
            self._encoding = b"gzip"
        else:
            self._refuse(Refusal.TRANSFER_CODING)

    def _expect(self) -> None:
        if self._header(b"expect").lower() != b"100-continue":
            self._refuse(Refusal.EXPECTATION)
            return
        length = self._header(b"content-length")
        if length.isdigit() and int(length) > self._limits.max_body_bytes:
            self._refuse(Refusal.BODY_TOO_LARGE)
        else:
            self._taker.encourage()

    def _header(self, name: bytes) -> bytes:
        return header_of(self._headers, name)


def add_piece(pieces: list[bytes], piece: bytes) -> None:
    """Add a part of a body to the previous parts."""
    pieces.append(piece)
    if len(pieces) == _MAX_PIECES:
        # Joined, since a part of two bytes takes forty.
        pieces[:] = [b"".join(pieces)]


LISTS: Final = frozenset(
    {
        b"accept-encoding",
        b"authorization",
        b"connection",
        b"content-encoding",
        b"host",
        b"transfer-encoding",
    }
)
"""
Headers whose lines form a list (RFC 9110, 5.3), plus `Host` and `Authorization`, which may not
repeat: the last line must not count alone.
"""

HOST: Final = re.compile(rb"[^\s,]*")

_PLAIN: Final = {b"Host", b"User-Agent", b"Accept", b"Content-Type", b"Content-Length"}
"""Names of headers that change nothing here, as spelled; learnt, up to a limit."""

_MAX_PLAIN: Final = 1000
