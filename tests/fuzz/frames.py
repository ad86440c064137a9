"""
What comes on a connection of HTTP/2, behind its preface: frames.

The whole edge reads it, over each engine, on a transport that keeps what is written and an
application that sends each body back. Whatever comes, what is written is whole frames, nothing is
written behind the end, and a client that is gone leaves nothing behind.
"""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any
from zlib import crc32

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from rtb.server.http import http11
from rtb.server.http.protocol import HTTP2_PREFACE, Site
from rtb.server.http.request_heads import Head
from rtb.server.http.request_reader import Limits
from rtb.server.http.turn import Turn
from rtb.server.http2.connection import Http2
from rtb.server.http2.session import NewSession, SessionLimits
from tests.edge.http2_engines import ENGINES
from tests.fuzz.heads import KeptTransport
from tests.fuzz.pieces import pieces_of
from tests.fuzz.target import Check, Target

_OK = http11.head_of(200, "enriched")
_LIMITS = SessionLimits(max_head_bytes=2_000, max_resets=20, resets_per_s=1, max_idle_frames=50)
_HEAD_BYTES = 9


class _Echo(Turn):
    def begin(self, head: Head, body: bytes) -> None:
        assert len(body) <= 600
        self.answer(_OK, body)


def _read(engine: NewSession, pieces: Sequence[bytes]) -> tuple[Any, ...]:
    """Read one connection; return what was refused, and the kinds of frames that were written."""
    bugs: list[Exception] = []
    refused: list[str] = []
    http2 = Http2(engine, lambda call: call(), _LIMITS)
    limits = Limits(max_head_bytes=2_000, max_body_bytes=600)
    site = Site(
        _Echo,
        limits,
        lambda refusal: refused.append(refusal.value),
        bugs.append,
        open_http2=http2.connection,
    )
    transport = KeptTransport()
    connection = http2.connection(site)
    connection.connection_made(transport)
    for piece in (HTTP2_PREFACE, *pieces):
        if not transport.is_over:
            connection.data_received(piece)
    connection.check(1.0, False)
    connection.connection_lost(None)  # type: ignore[attr-defined] # of asyncio.Protocol
    if bugs:
        raise bugs[0]
    assert not site.connections, "the site remembers a client that is gone"
    return sorted(set(refused)), _kinds(b"".join(transport.written))


def _kinds(written: bytes) -> frozenset[int]:
    """Return the types of frames in what was written, which is nothing but whole ones."""
    kinds = set()
    while written:
        frame, length = Frame.parse_frame_header(memoryview(written[:_HEAD_BYTES]))
        assert len(written) >= _HEAD_BYTES + length, "half a frame"
        kinds.add(frame.type or 0)
        written = written[_HEAD_BYTES + length :]
    return frozenset(kinds)


@contextmanager
def _checking() -> Iterator[Check]:
    def check(data: bytes) -> Hashable:
        pieces = pieces_of(data)
        # The one in Python takes thirty times as long.
        engines = ENGINES if crc32(data) % 4 == 0 else ENGINES[-1:]
        ends = [_read(engine, pieces) for engine in engines]
        refused, kinds = ends[0]
        return tuple(refused), kinds

    yield check


def _client() -> H2Connection:
    client = H2Connection(
        H2Configuration(client_side=True, validate_outbound_headers=False),
    )
    client.initiate_connection()
    return client


def _said(client: H2Connection) -> bytes:
    return client.data_to_send().removeprefix(HTTP2_PREFACE)


def _asked(streams: int, body: bytes = b"{}", **more: str) -> bytes:
    client = _client()
    for n in range(streams):
        fields = {":method": "POST", ":path": "/openrtb25", ":scheme": "http", ":authority": "a"}
        client.send_headers(2 * n + 1, [*fields.items(), *more.items()])
        client.send_data(2 * n + 1, body, end_stream=True)
    return _said(client)


def _seeds() -> list[bytes]:
    leaving = _client()
    leaving.ping(b"12345678")
    leaving.close_connection()
    return [
        _asked(1),
        _asked(5),
        _asked(1, b"x" * 700),
        _asked(1, expect="100-continue"),
        _asked(1, x="y" * 2_500),
        _asked(1) + RstStreamFrame(1, error_code=ErrorCodes.CANCEL).serialize() * 3,
        _asked(2) + WindowUpdateFrame(0, window_increment=(1 << 31) - 1).serialize(),
        _asked(1) + SettingsFrame(0, settings={4: 0}).serialize() + _asked(3),
        _asked(1) + GoAwayFrame(0).serialize() + PingFrame(0, opaque_data=b"1" * 8).serialize(),
        HeadersFrame(1, b"\x82\x84").serialize() + ContinuationFrame(1, b"\x86").serialize(),
        DataFrame(1, b"x").serialize() + PriorityFrame(3, depends_on=3).serialize(),
        PingFrame(0, opaque_data=b"1" * 8).serialize() * 60,
        _said(leaving),
    ]


def _other_frame(data: bytes, rng: Random, other: Any) -> bytes:
    """Change a frame's type, flags or stream, or put it elsewhere."""
    frames = []
    while len(data) >= _HEAD_BYTES:
        length = _HEAD_BYTES + int.from_bytes(data[:3])
        frames.append(data[:length])
        data = data[length:]
    if not frames:
        return data
    at = rng.randrange(len(frames))
    frame = bytearray(frames[at])
    frame[3 + rng.randrange(6)] = rng.choice((0, 1, 3, 4, 5, 8, 9, rng.randrange(256)))
    frames[at] = bytes(frame)
    if rng.random() < 0.5:
        frames.insert(rng.randrange(len(frames) + 1), rng.choice(frames))
    return b"".join(frames) + data


TARGETS = (
    Target(
        "frames", _seeds, _checking, (_other_frame,), (b"\0\0\0", b"\x82", b"\x05", b"\xff" * 4),
        ("rtb/server/http2/",), max_bytes=6_000, slowest_ms=60.0,
    ),
)  # fmt: skip
