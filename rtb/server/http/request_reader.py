"""
Bytes of one connection to requests: HTTP/1.1 on httptools, within limits.

    bytes -> Reader -> head seen before?  -> Taker.take(head, body)
                       llhttp, callbacks

Nothing is unbounded: head and body have limits in bytes and in time. A time counts
from the first byte, so dripping bytes buys none; chunks and trailers weigh too.

`Upgrade` is ignored, whatever it names (RFC 9110, 7.8): clients offer h2c with each request. The
parser would leave the body to the other protocol, so it is given the head anew without it.

Trailers are read and dropped: fields of a head that come behind the body change nothing
(RFC 9110, 6.5.1).
"""

import re
from typing import Final, NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from mypy_extensions import mypyc_attr

from rtb.server.http import http11
from rtb.server.http.request_heads import Head, Heads, header_of
from rtb.server.metrics.layout import Refusal

_BETWEEN, _HEAD, _BODY = range(3)

_MAX_HEADERS: Final = 100

_LINE_BYTES: Final = 4
"""Of a header's line, beside name and value."""

_GZIP: Final = (b"gzip", b"x-gzip")


class Limits(NamedTuple):
    """What one connection may take of us."""

    max_head_bytes: int = 16_384
    max_body_bytes: int = 262_144
    max_pipelined: int = 64
    head_timeout_s: float = 10.0
    body_timeout_s: float = 10.0
    idle_timeout_s: float = 75.0
    fetch_timeout_s: float = 10.0
    """How long a client may leave our answers unfetched."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Taker:
    """Who takes the requests that a `Reader` reads."""

    __slots__ = ()

    def take(self, head: Head, body: bytes) -> None:
        """Take one request that is whole."""
        raise NotImplementedError

    def refuse(self, refusal: Refusal) -> None:
        """Say why no more is read, to the client."""
        raise NotImplementedError

    def encourage(self) -> None:
        """Tell a client that waits for it (RFC 9110, 10.1.1) to send its body."""
        raise NotImplementedError

    def end(self) -> None:
        """Take no more: what follows is none of our requests."""
        raise NotImplementedError


class Reader:
    """
    Reads one connection.

    Args:
        taker: Gets each request, and the refusal of what is none.
        limits: What a request may take.
        heads: Those seen before, on whatever connection.
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
        "_url",
        "_wants_gzip",
    )

    def __init__(self, taker: Taker, limits: Limits, heads: Heads) -> None:
        self._taker = taker
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
        self._is_new = True  # the parser has seen nothing of the next request
        self._data = b""  # what came, if a request begins with it
        self._parser: HttpRequestParser | None = HttpRequestParser(self)

    def read(self, data: bytes, now_s: float) -> None:
        """
        Take what came; whole requests are given on at once.

        Raises:
            Exception: Whatever the taker raised.
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
        """Forget what is here of a request; nothing more is read, nor learnt."""
        self._url = self._data = b""

    def close(self) -> None:
        """Let go of the parser, which holds our methods, as we hold it."""
        self._parser = None

    @property
    def is_amid(self) -> bool:
        """Whether a part of a request is here."""
        return bool(self._url)

    def is_too_slow(self, now_s: float) -> bool:
        """Say whether a request of which a part is here takes too long."""
        limits = self._limits
        limit_s = limits.head_timeout_s if self._phase == _HEAD else limits.body_timeout_s
        return bool(self._url) and now_s - self._since_s > limit_s

    # The parser's side.

    def on_message_begin(self) -> None:
        """Note that the next request has begun."""
        self._is_new = False

    def on_url(self, url: bytes) -> None:
        """Take the request's target, or the next piece of it."""
        self._url += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; each line weighs, though its name has come before."""
        if self._phase == _BODY:
            return  # a trailer
        self._lines += 1
        self._head_bytes += len(name) + len(value) + _LINE_BYTES
        headers = self._headers
        if name in headers and name.lower() in _LISTS:
            value = b"%b, %b" % (headers[name], value)
        headers[name] = value

    def on_headers_complete(self) -> None:
        """Read the few headers that change anything."""
        headers = self._headers
        parser = self._parser
        if parser is None:
            return
        if self._lines > _MAX_HEADERS or self._head_bytes > self._limits.max_head_bytes:
            self._refuse(Refusal.HEAD_TOO_LARGE)
        elif parser.should_upgrade() and parser.get_method() != b"CONNECT":
            self._is_upgrading = True
            return
        hosts = 1 if b"Host" in headers else 0
        for name in headers:
            if name not in _PLAIN:
                hosts += self._read_header(name, headers[name])
        if (hosts != 1 and parser.get_http_version() != "1.0") or (
            hosts and not _HOST.fullmatch(self._header(b"host"))
        ):
            self._refuse(Refusal.BAD_HTTP)
        self._phase = _BODY
        if self._expects:
            self._expects = False
            self._data = b""  # whoever asks before it sends is answered anew each time
            self._expect()

    def on_body(self, chunk: bytes) -> None:
        """Take the body, or the next piece of it."""
        if self._body:
            self._more.append(chunk)
        else:
            self._body = chunk
        self._body_bytes += len(chunk)
        if self._body_bytes > self._limits.max_body_bytes:
            self._refuse(Refusal.BODY_TOO_LARGE)
            self._body = b""
            self._more.clear()

    def on_message_complete(self) -> None:
        """Give the request on."""
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
        self._taker.take(head, body)

    # Ours.

    def _parse(self, data: bytes, now_s: float) -> None:
        parser = self._parser
        if parser is None:
            return
        rest = self._feed(parser, data)
        while rest is not None:
            if not self._is_upgrading:
                self._taker.end()  # what follows is a tunnel, which we don't make
                return
            head = self._without_upgrade(parser)
            self._parser = parser = HttpRequestParser(self)
            self._feed(parser, head)
            rest = self._feed(parser, rest)
        if self._url:
            self._note_part(len(data), now_s)

    def _refuse(self, refusal: Refusal) -> None:
        self._data = b""  # so that its head is not learnt
        self._taker.refuse(refusal)

    def _feed(self, parser: HttpRequestParser, data: bytes) -> bytes | None:
        """Return what stands behind a head that asks for another protocol; `None` if none does."""
        try:
            parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            return data[upgrade.args[0] :]
        except HttpParserError as error:
            # What a callback of ours raised comes as the context of the parser's own.
            bug = error.__context__
            if isinstance(bug, Exception) and not isinstance(bug, HttpParserError):
                raise bug from None
            self._refuse(Refusal.BAD_HTTP)
        return None

    def _without_upgrade(self, parser: HttpRequestParser) -> bytes:
        """Write a head as if it had not asked for another protocol, and forget it, to read it."""
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
        """Mind the limits of a request of which only a part is here."""
        limits = self._limits
        phase = self._phase or _HEAD
        if phase != self._phase or not self._part_bytes:
            # The first part of a head: measured, for what came before it was others'.
            self._since_s = now_s
            self._phase = phase
            self._part_bytes = self._head_bytes
        else:
            self._part_bytes += received
        if phase == _HEAD and self._part_bytes > limits.max_head_bytes:
            self._refuse(Refusal.HEAD_TOO_LARGE)
        # Chunks and trailers weigh too, and only their content counts as body.
        elif self._part_bytes > limits.max_head_bytes + 4 * limits.max_body_bytes:
            self._refuse(Refusal.BODY_TOO_LARGE)

    def _read_header(self, name: bytes, value: bytes) -> int:
        """Take note of a header that changes something; returns how many hosts it names."""
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
                # HTTP/1.0 wants to hear it; 1.1 takes it for granted.
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
        """Mind the codings of a body beside chunked, which the parser undoes (RFC 9112, 7)."""
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


_LISTS: Final = frozenset(
    {b"accept-encoding", b"connection", b"content-encoding", b"host", b"transfer-encoding"}
)
"""Headers of which two lines are one list (RFC 9110, 5.3); and `Host`, of which they are none."""

_HOST: Final = re.compile(rb"[^\s,]*")

_PLAIN: Final = {b"Host", b"User-Agent", b"Accept", b"Content-Type", b"Content-Length"}
"""Names of headers that change nothing here, as spelled; learnt, up to a limit."""

_MAX_PLAIN: Final = 1000
