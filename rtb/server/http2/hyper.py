"""
HTTP/2 with the package h2, if libnghttp2 is not compiled in; and a second opinion in tests.

h2 leaves two tasks to its user: to hold answers until the peer's windows have room, and to end a
stream when both sides have ended. After a peer's GOAWAY h2 would send nothing more, not even
pending answers (RFC 9113, 6.8).
"""

from contextlib import suppress
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame, GoAwayFrame

from rtb.server.http2.fields import pairs_of
from rtb.server.http2.session import WINDOW_BYTES, Broken, ErrorCode, SessionLimits, StreamTaker

_FIELD_BYTES: Final = 32
_LAST_STREAM: Final = 2**31 - 1
_FIRST_WINDOW: Final = 65_535
_MAX_SILENT_BYTES: Final = 1 << 20
"""
Bytes without an event: h2 reports the size of a 16 MB frame only at its end, and silently drops a
closed stream's data.
"""

_VOLATILE: Final = (b"content-length", b"grpc-timeout")


class _Stream:
    __slots__ = ("body", "is_answered", "is_received", "trailers")

    def __init__(self) -> None:
        self.is_received = False
        self.is_answered = False
        self.body = memoryview(b"")
        self.trailers: bytes | None = None


class FarewellConnection(H2Connection):
    """h2's connection, except that a peer's GOAWAY ends nothing."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        event = ConnectionTerminated()
        event.error_code, event.last_stream_id = frame.error_code, frame.last_stream_id
        return [], [event]


class HyperSession:
    """
    A connection's state.

    Args:
        taker: Gets the parsed events.
        limits: Of the peer.
    """

    def __init__(self, taker: StreamTaker, limits: SessionLimits) -> None:
        self._taker = taker
        self._limits = limits
        self._streams: dict[int, _Stream] = {}
        self._last_stream_id = 0
        self._own: list[bytes] = []
        self._silent_bytes = 0
        self.idle_frames = 0
        self.is_amid_head = False  # h2 does not report this
        self.is_over = False
        self.is_broken = False  # `receive` raises instead
        config = H2Configuration(client_side=False, header_encoding=None)
        self._h2 = FarewellConnection(config)
        self._h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: limits.max_streams,
                SettingCodes.INITIAL_WINDOW_SIZE: limits.window_bytes,
                SettingCodes.MAX_HEADER_LIST_SIZE: limits.max_head_bytes,
            },
        )
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW_BYTES - _FIRST_WINDOW)

    def receive(self, data: bytes) -> None:
        """See `Session`."""
        # Heads up to four times the limit are answered 431; h2 would hang up.
        self._h2.decoder.max_header_list_size = 4 * self._limits.max_head_bytes
        try:
            events = self._h2.receive_data(data)
        except H2Error as error:
            self._streams.clear()  # h2 sends nothing on them any more
            raise Broken(type(error).__name__) from None
        self._silent_bytes = 0 if events else self._silent_bytes + len(data)
        if self._silent_bytes > _MAX_SILENT_BYTES:
            self.go_away(ErrorCode.ENHANCE_YOUR_CALM)
            raise Broken("no frame ends")
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case RequestReceived():
                paid = self._limits.idle_frames_a_request
                self.idle_frames = max(0, self.idle_frames - paid)
                self._take_head(event)
            case DataReceived():
                self._take_body(event)
            case StreamEnded():
                self._end(event.stream_id)
            case StreamReset():
                self._close(event.stream_id, event.error_code)
            case ConnectionTerminated():
                self.is_over = True
            case TrailersReceived():
                pass  # fields after the body change nothing
            case _:
                self.idle_frames += 1

    def _take_head(self, event: RequestReceived) -> None:
        stream_id = event.stream_id
        self._last_stream_id = max(self._last_stream_id, stream_id)
        self._streams[stream_id] = _Stream()
        pairs: list[tuple[bytes, bytes]] = [(bytes(n), bytes(v)) for n, v in event.headers]
        size = sum(len(name) + len(value) + _FIELD_BYTES for name, value in pairs)
        timeouts = [value for name, value in pairs if name == b"grpc-timeout"]
        fields = b"".join(
            b"%b\0%b\0" % (name, value) for name, value in pairs if name not in _VOLATILE
        )
        is_small = size <= self._limits.max_head_bytes
        self._taker.on_head(
            stream_id,
            fields if is_small else None,
            timeouts[-1] if timeouts else b"",
        )

    def _take_body(self, event: DataReceived) -> None:
        stream_id = event.stream_id
        if not event.data and event.stream_ended is None:
            self.idle_frames += 1
        try:
            self._h2.acknowledge_received_data(event.flow_controlled_length, stream_id)
        except H2Error:
            return
        if event.data and stream_id in self._streams:
            self._taker.on_body(stream_id, event.data)

    def _end(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.is_received = True
        self._taker.on_end(stream_id)

    def respond(
        self, stream_id: int, fields: bytes, body: bytes | None, trailers: bytes | None
    ) -> None:
        """See `Session`."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.is_answered:
            return
        stream.is_answered = True
        stream.body = memoryview(body or b"")
        stream.trailers = trailers
        is_bare = not body and trailers is None
        try:
            self._h2.send_headers(stream_id, pairs_of(fields), end_stream=is_bare)
        except H2Error:
            self._close(stream_id, ErrorCode.INTERNAL_ERROR)
            return
        if is_bare:
            self._finish(stream_id, stream)

    def encourage(self, stream_id: int) -> None:
        """See `Session`."""
        if stream_id in self._streams:
            with suppress(H2Error):  # h2 has already read the stream's reset
                self._h2.send_headers(stream_id, [(b":status", b"100")])

    def reset(self, stream_id: int, code: int) -> None:
        """See `Session`."""
        if stream_id in self._streams:
            with suppress(H2Error):  # likewise
                self._h2.reset_stream(stream_id, code)
            self._close(stream_id, code)

    def announce_end(self) -> None:
        """See `Session`."""
        self._own.append(GoAwayFrame(0, last_stream_id=_LAST_STREAM).serialize())

    def go_away(self, code: int) -> None:
        """See `Session`."""
        # After h2's own call no answer could be sent.
        last = self._last_stream_id
        self._own.append(GoAwayFrame(0, last_stream_id=last, error_code=code).serialize())

    def output(self, max_bytes: int) -> bytes:
        """See `Session`."""
        parts = [self._h2.data_to_send(), *self._own]
        self._own.clear()
        left = max_bytes - sum(map(len, parts))
        for stream_id, stream in list(self._streams.items()):
            if stream.is_answered:
                while left > 0 and self._has_more(stream_id, stream):
                    part = self._h2.data_to_send()
                    parts.append(part)
                    left -= len(part)
        parts.append(self._h2.data_to_send())
        return b"".join(parts)

    def _has_more(self, stream_id: int, stream: _Stream) -> bool:
        """Send another frame, as `_send_some`; give up an answer that h2 rejects."""
        try:
            return self._send_some(stream_id, stream)
        except H2Error:
            self._close(stream_id, ErrorCode.INTERNAL_ERROR)
            return False

    def _send_some(self, stream_id: int, stream: _Stream) -> bool:
        """Send another frame of an answer; return whether more can follow now."""
        h2, body = self._h2, stream.body
        room = min(h2.local_flow_control_window(stream_id), h2.max_outbound_frame_size)
        if body and room <= 0:
            return False
        part, stream.body = body[:room], body[room:]
        is_last = not stream.body
        if part:
            h2.send_data(stream_id, bytes(part), end_stream=is_last and stream.trailers is None)
        if not is_last:
            return True
        if stream.trailers is not None:
            h2.send_headers(stream_id, pairs_of(stream.trailers), end_stream=True)
        self._finish(stream_id, stream)
        return False

    def close(self) -> None:
        """Release the taker: it and the session reference each other."""
        self._taker = StreamTaker()
        self._streams.clear()

    def _finish(self, stream_id: int, stream: _Stream) -> None:
        if not stream.is_received:
            with suppress(H2Error):  # h2 has read its end, ahead of our events
                self._h2.reset_stream(stream_id, ErrorCode.NO_ERROR)
        self._close(stream_id, ErrorCode.NO_ERROR)

    def _close(self, stream_id: int, code: int) -> None:
        if self._streams.pop(stream_id, None) is not None:
            self._taker.on_close(stream_id, code)
