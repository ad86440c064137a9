"""
Bytes of one connection to requests: HTTP/1.1 on httptools, within limits.

    bytes -> Reader -> head seen before?  -> Taker.take(head, body)
                       llhttp, callbacks

Nothing is unbounded: head and body have limits in bytes and in time. A time counts
from the first byte, so dripping bytes buys none; chunks and trailers weigh too.
"""

from typing import Final, NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from mypy_extensions import mypyc_attr

from rtb.server.http import http11
from rtb.server.http.request_heads import Head, Heads, header_of
from rtb.server.metrics.layout import Refusal

_BETWEEN, _HEAD, _BODY = range(3)

_MAX_HEADERS: Final = 100


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
        "_headers",
        "_heads",
        "_is_large",
        "_is_new",
        "_limits",
        "_more",
        "_parser",
        "_part_bytes",
        "_phase",
        "_since_s",
        "_taker",
        "_url",
        "_wants_gzip",
        "on_header",
    )

    def __init__(self, taker: Taker, limits: Limits, heads: Heads) -> None:
        self._taker = taker
        self._limits = limits
        self._heads = heads
        self._headers: dict[bytes, bytes] = {}
        # A dictionary's own method: eight headers cost what one Python call does.
        self.on_header = self._headers.__setitem__
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
        self._is_large = False
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

    def on_headers_complete(self) -> None:
        """Read the few headers that change anything."""
        headers = self._headers
        for name in headers:
            if name not in _PLAIN:
                self._read_header(name, headers[name])
        if (self._is_large or self._part_bytes or len(headers) > _MAX_HEADERS) and (
            len(headers) > _MAX_HEADERS or self._head_bytes() > self._limits.max_head_bytes
        ):
            self._taker.refuse(Refusal.HEAD_TOO_LARGE)
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
            self._taker.refuse(Refusal.BODY_TOO_LARGE)
            self._body = b""
            self._more.clear()

    def on_message_complete(self) -> None:
        """Give the request on."""
        parser = self._parser
        if parser is None:
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
        self._wants_gzip = False
        self._is_new = True
        self._headers.clear()
        self._taker.take(head, body)

    # Ours.

    def _parse(self, data: bytes, now_s: float) -> None:
        parser = self._parser
        if parser is None:
            return
        self._is_large = len(data) > self._limits.max_head_bytes
        try:
            parser.feed_data(data)
        except HttpParserUpgrade:
            self._taker.end()  # what follows is another protocol, which we don't speak
        except HttpParserError as error:
            # What a callback of ours raised comes as the context of the parser's own.
            bug = error.__context__
            if isinstance(bug, Exception) and not isinstance(bug, HttpParserError):
                raise bug from None
            self._taker.refuse(Refusal.BAD_HTTP)
        if self._url:
            self._note_part(len(data), now_s)

    def _note_part(self, received: int, now_s: float) -> None:
        """Mind the limits of a request of which only a part is here."""
        limits = self._limits
        phase = self._phase or _HEAD
        if phase != self._phase or not self._part_bytes:
            # The first part of a head: measured, for what came before it was others'.
            self._since_s = now_s
            self._phase = phase
            self._part_bytes = self._head_bytes()
        else:
            self._part_bytes += received
        if phase == _HEAD and self._part_bytes > limits.max_head_bytes:
            self._taker.refuse(Refusal.HEAD_TOO_LARGE)
        # Chunks and trailers weigh too, and only their content counts as body.
        elif self._part_bytes > limits.max_head_bytes + 4 * limits.max_body_bytes:
            self._taker.refuse(Refusal.BODY_TOO_LARGE)

    def _head_bytes(self) -> int:
        return len(self._url) + sum(len(name) + len(self._headers[name]) for name in self._headers)

    def _read_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
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

    def _expect(self) -> None:
        if self._header(b"expect").lower() != b"100-continue":
            self._taker.refuse(Refusal.EXPECTATION)
            return
        length = self._header(b"content-length")
        if length.isdigit() and int(length) > self._limits.max_body_bytes:
            self._taker.refuse(Refusal.BODY_TOO_LARGE)
        else:
            self._taker.encourage()

    def _header(self, name: bytes) -> bytes:
        return header_of(self._headers, name)


_PLAIN: Final = {b"Host", b"User-Agent", b"Accept", b"Content-Type", b"Content-Length"}
"""Names of headers that change nothing here, as spelled; learnt, up to a limit."""

_MAX_PLAIN: Final = 1000
