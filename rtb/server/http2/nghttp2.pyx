# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""
HTTP/2 by libnghttp2: a `Session` of rtb/server/http2/session.py.

The library does flow control, header compression, and the limits of CONTINUATION and of forced
answers. This module joins a head's fields into one `bytes`, and hands bodies and answers on.
docs/decisions/http2.md has the measurements.

Callbacks are C, so an exception of the taker is kept, and raised by `receive` once the library has
returned. Callbacks send nothing: their frames leave with the next `output`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcmp, memcpy

from rtb.server.http2.session import WINDOW_BYTES, Broken

cdef extern from "nghttp2/nghttp2.h":
    ctypedef struct nghttp2_session:
        pass
    ctypedef struct nghttp2_session_callbacks:
        pass
    ctypedef struct nghttp2_option:
        pass
    ctypedef struct nghttp2_frame_hd:
        size_t length
        int32_t stream_id
        uint8_t type
        uint8_t flags
    ctypedef struct nghttp2_headers:
        int cat
    ctypedef struct nghttp2_goaway:
        uint32_t error_code
    ctypedef union nghttp2_frame:
        nghttp2_frame_hd hd
        nghttp2_headers headers
        nghttp2_goaway goaway
    ctypedef struct nghttp2_nv:
        uint8_t *name
        uint8_t *value
        size_t namelen
        size_t valuelen
        uint8_t flags
    ctypedef struct nghttp2_settings_entry:
        int32_t settings_id
        uint32_t value
    ctypedef union nghttp2_data_source:
        void *ptr
    ctypedef struct nghttp2_data_provider:
        nghttp2_data_source source
        ssize_t (*read_callback)(
            nghttp2_session *, int32_t, uint8_t *, size_t, uint32_t *, nghttp2_data_source *, void *
        ) noexcept

    int nghttp2_session_callbacks_new(nghttp2_session_callbacks **)
    void nghttp2_session_callbacks_set_on_begin_headers_callback(
        nghttp2_session_callbacks *,
        int (*)(nghttp2_session *, const nghttp2_frame *, void *) noexcept,
    )
    void nghttp2_session_callbacks_set_on_header_callback(
        nghttp2_session_callbacks *,
        int (*)(
            nghttp2_session *, const nghttp2_frame *, const uint8_t *, size_t, const uint8_t *,
            size_t, uint8_t, void *,
        ) noexcept,
    )
    void nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
        nghttp2_session_callbacks *,
        int (*)(nghttp2_session *, uint8_t, int32_t, const uint8_t *, size_t, void *) noexcept,
    )
    void nghttp2_session_callbacks_set_on_frame_recv_callback(
        nghttp2_session_callbacks *,
        int (*)(nghttp2_session *, const nghttp2_frame *, void *) noexcept,
    )
    void nghttp2_session_callbacks_set_on_frame_send_callback(
        nghttp2_session_callbacks *,
        int (*)(nghttp2_session *, const nghttp2_frame *, void *) noexcept,
    )
    void nghttp2_session_callbacks_set_on_stream_close_callback(
        nghttp2_session_callbacks *,
        int (*)(nghttp2_session *, int32_t, uint32_t, void *) noexcept,
    )
    int nghttp2_option_new(nghttp2_option **)
    void nghttp2_option_del(nghttp2_option *)
    void nghttp2_option_set_no_closed_streams(nghttp2_option *, int)
    void nghttp2_option_set_stream_reset_rate_limit(nghttp2_option *, uint64_t, uint64_t)
    int nghttp2_session_server_new2(
        nghttp2_session **, const nghttp2_session_callbacks *, void *, const nghttp2_option *
    )
    void nghttp2_session_del(nghttp2_session *)
    ssize_t nghttp2_session_mem_recv(nghttp2_session *, const uint8_t *, size_t)
    ssize_t nghttp2_session_mem_send(nghttp2_session *, const uint8_t **)
    int nghttp2_session_set_local_window_size(nghttp2_session *, uint8_t, int32_t, int32_t)
    int nghttp2_session_get_stream_remote_close(nghttp2_session *, int32_t)
    int32_t nghttp2_session_get_last_proc_stream_id(nghttp2_session *)
    int nghttp2_submit_settings(
        nghttp2_session *, uint8_t, const nghttp2_settings_entry *, size_t
    )
    int nghttp2_submit_response(
        nghttp2_session *, int32_t, const nghttp2_nv *, size_t, const nghttp2_data_provider *
    )
    int32_t nghttp2_submit_headers(
        nghttp2_session *, uint8_t, int32_t, const void *, const nghttp2_nv *, size_t, void *
    )
    int nghttp2_submit_trailer(nghttp2_session *, int32_t, const nghttp2_nv *, size_t)
    int nghttp2_submit_rst_stream(nghttp2_session *, uint8_t, int32_t, uint32_t)
    int nghttp2_submit_shutdown_notice(nghttp2_session *)
    int nghttp2_submit_goaway(
        nghttp2_session *, uint8_t, int32_t, uint32_t, const uint8_t *, size_t
    )

cdef enum:
    DATA = 0
    HEADERS = 1
    GOAWAY = 7
    END_STREAM = 1
    OF_REQUEST = 0  # the category of HEADERS that open a stream at a server
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_HEADER_LIST_SIZE = 6
    EOF_FLAG = 1
    NO_END_STREAM = 2
    CALLBACK_FAILURE = -902
    FIELD_BYTES = 32
    MAX_FIELDS = 64


cdef struct Buffer:
    char *at
    size_t length
    size_t room


cdef int append(Buffer *buffer, const void *data, size_t length) except -1:
    cdef size_t room = buffer.room
    cdef char *at
    if buffer.length + length > room:
        room = max(2 * room, buffer.length + length, <size_t>1024)
        at = <char *>realloc(buffer.at, room)
        if at == NULL:
            raise MemoryError
        buffer.at, buffer.room = at, room
    memcpy(buffer.at + buffer.length, data, length)
    buffer.length += length
    return 0


cdef class Reply:
    """The rest of an answer, after its head."""

    cdef bytes body
    cdef Py_ssize_t sent
    cdef bytes trailers


cdef size_t split(bytes fields, nghttp2_nv *into) noexcept:
    """Point at each field; return their number."""
    cdef const char *at = PyBytes_AS_STRING(fields)
    cdef const char *end = at + PyBytes_GET_SIZE(fields)
    cdef const char *stop
    cdef size_t count = 0
    while at < end and count < MAX_FIELDS:
        stop = <const char *>memchr(at, 0, end - at)
        if stop == NULL:
            break
        into[count].name, into[count].namelen = <uint8_t *>at, stop - at
        at = stop + 1
        stop = <const char *>memchr(at, 0, end - at)
        if stop == NULL:
            break
        into[count].value, into[count].valuelen = <uint8_t *>at, stop - at
        into[count].flags = 0
        at = stop + 1
        count += 1
    return count


cdef class Nghttp2Session:
    """
    One connection's state.

    Args:
        taker: Takes the peer's heads, bodies and resets.
        limits: Of the peer.
    """

    cdef nghttp2_session *session
    cdef Buffer head
    cdef Buffer out
    cdef object taker
    cdef object bug
    cdef bytes call_timeout
    cdef dict replies
    cdef size_t head_bytes
    cdef size_t max_head_bytes
    cdef int frames_a_request
    cdef bint is_reading_head
    cdef bint is_goaway_ours
    cdef bint has_content
    cdef readonly bint is_amid_head
    cdef readonly bint is_over
    cdef readonly bint is_broken
    cdef readonly int idle_frames

    def __cinit__(self, taker, limits):
        cdef nghttp2_option *option
        cdef nghttp2_settings_entry entries[3]
        self.taker = taker
        self.replies = {}
        self.call_timeout = b""
        self.max_head_bytes = limits.max_head_bytes
        self.frames_a_request = limits.idle_frames_a_request
        if nghttp2_option_new(&option):
            raise MemoryError
        nghttp2_option_set_no_closed_streams(option, 1)
        # Our own limit, which also counts resets that a peer makes the library send, is half of it.
        nghttp2_option_set_stream_reset_rate_limit(
            option, 2 * limits.max_resets, 2 * limits.resets_per_s
        )
        failed = nghttp2_session_server_new2(&self.session, CALLBACKS, <void *>self, option)
        nghttp2_option_del(option)
        if failed:
            raise MemoryError
        entries[0].settings_id, entries[0].value = MAX_CONCURRENT_STREAMS, limits.max_streams
        entries[1].settings_id, entries[1].value = INITIAL_WINDOW_SIZE, limits.window_bytes
        entries[2].settings_id, entries[2].value = MAX_HEADER_LIST_SIZE, limits.max_head_bytes
        nghttp2_submit_settings(self.session, 0, entries, 3)
        nghttp2_session_set_local_window_size(self.session, 0, 0, WINDOW_BYTES)

    def __dealloc__(self):
        if self.session != NULL:
            nghttp2_session_del(self.session)
        free(self.head.at)
        free(self.out.at)

    def receive(self, bytes data not None):
        """Take the peer's bytes; see `Session`."""
        cdef ssize_t read = nghttp2_session_mem_recv(
            self.session, <const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)
        )
        if self.bug is not None:
            bug, self.bug = self.bug, None
            raise bug
        if read < 0:
            raise Broken(f"libnghttp2 {read}")

    def respond(self, int32_t stream_id, bytes fields not None, bytes body, bytes trailers):
        """Answer; see `Session`."""
        cdef nghttp2_nv values[MAX_FIELDS]
        cdef nghttp2_data_provider provider
        cdef Reply reply
        cdef size_t count = split(fields, values)
        if not body and trailers is None:
            nghttp2_submit_response(self.session, stream_id, values, count, NULL)
            return
        reply = Reply()
        reply.body = b"" if body is None else body
        reply.trailers = trailers
        self.replies[stream_id] = reply
        provider.source.ptr = <void *>reply
        provider.read_callback = read_reply
        nghttp2_submit_response(self.session, stream_id, values, count, &provider)

    def encourage(self, int32_t stream_id):
        """Send 100 Continue."""
        cdef nghttp2_nv values[1]
        split(b":status\x00100\x00", values)
        nghttp2_submit_headers(self.session, 0, stream_id, NULL, values, 1, NULL)

    def reset(self, int32_t stream_id, uint32_t code):
        """Reset a stream."""
        nghttp2_submit_rst_stream(self.session, 0, stream_id, code)

    def announce_end(self):
        """Tell the peer to open no more streams."""
        nghttp2_submit_shutdown_notice(self.session)

    def go_away(self, uint32_t code):
        """Name the last stream that is taken."""
        self.is_goaway_ours = True
        nghttp2_submit_goaway(
            self.session, 0, nghttp2_session_get_last_proc_stream_id(self.session), code, NULL, 0
        )

    def output(self, size_t max_bytes):
        """Return the bytes to write; see `Session`."""
        cdef const uint8_t *data
        cdef ssize_t length
        self.out.length = 0
        while self.out.length < max_bytes:
            length = nghttp2_session_mem_send(self.session, &data)
            if length <= 0:
                break
            append(&self.out, data, length)
        if self.bug is not None:
            bug, self.bug = self.bug, None
            raise bug
        return PyBytes_FromStringAndSize(self.out.at, self.out.length)

    def close(self):
        """Release the taker, which holds this object."""
        self.taker = None
        self.replies.clear()


# Each returns 0; an exception ends the library's work, and leaves by `receive` or `output`.

cdef int on_begin_headers(
    nghttp2_session *session, const nghttp2_frame *frame, void *of
) noexcept:
    cdef Nghttp2Session self = <Nghttp2Session>of
    self.is_reading_head = frame.hd.type == HEADERS and frame.headers.cat == OF_REQUEST
    self.is_amid_head = True
    self.head.length = self.head_bytes = 0
    self.call_timeout = b""
    return 0


cdef int on_header(
    nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_bytes,
    const uint8_t *value, size_t value_bytes, uint8_t flags, void *of,
) noexcept:
    cdef Nghttp2Session self = <Nghttp2Session>of
    if not self.is_reading_head:
        return 0  # fields after the body change nothing
    self.head_bytes += name_bytes + value_bytes + FIELD_BYTES
    if self.head_bytes > self.max_head_bytes:
        return 0
    try:
        if name_bytes == 12 and not memcmp(name, b"grpc-timeout", 12):
            self.call_timeout = PyBytes_FromStringAndSize(<const char *>value, value_bytes)
        elif name_bytes != 14 or memcmp(name, b"content-length", 14):
            append(&self.head, name, name_bytes)
            append(&self.head, b"\0", 1)
            append(&self.head, value, value_bytes)
            append(&self.head, b"\0", 1)
    except BaseException as bug:
        self.bug = bug
        return CALLBACK_FAILURE
    return 0


cdef int on_data(
    nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data,
    size_t length, void *of,
) noexcept:
    cdef Nghttp2Session self = <Nghttp2Session>of
    self.has_content = True
    try:
        self.taker.on_body(stream_id, PyBytes_FromStringAndSize(<const char *>data, length))
    except BaseException as bug:
        self.bug = bug
        return CALLBACK_FAILURE
    return 0


cdef int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *of) noexcept:
    cdef Nghttp2Session self = <Nghttp2Session>of
    cdef bint is_end = frame.hd.type <= HEADERS and frame.hd.flags & END_STREAM
    cdef bytes fields = None
    self.is_amid_head = False
    try:
        if frame.hd.type == HEADERS and frame.headers.cat == OF_REQUEST:
            self.idle_frames = max(0, self.idle_frames - self.frames_a_request)
            if self.head_bytes <= self.max_head_bytes:
                fields = PyBytes_FromStringAndSize(self.head.at, self.head.length)
            self.taker.on_head(frame.hd.stream_id, fields, self.call_timeout)
        elif frame.hd.type == DATA:
            if not self.has_content and not is_end:
                self.idle_frames += 1
            self.has_content = False
        else:
            self.idle_frames += 1
            if frame.hd.type == GOAWAY:
                self.is_over = True
        if is_end:
            self.taker.on_end(frame.hd.stream_id)
    except BaseException as bug:
        self.bug = bug
        return CALLBACK_FAILURE
    return 0


cdef int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *of) noexcept:
    cdef Nghttp2Session self = <Nghttp2Session>of
    if frame.hd.type <= HEADERS and frame.hd.flags & END_STREAM:
        if nghttp2_session_get_stream_remote_close(session, frame.hd.stream_id) == 0:
            # Answered before its end: no more of the request is wanted (RFC 9113, 8.1).
            nghttp2_submit_rst_stream(session, 0, frame.hd.stream_id, 0)
    elif frame.hd.type == GOAWAY and frame.goaway.error_code and not self.is_goaway_ours:
        self.is_broken = True
    return 0


cdef int on_close(
    nghttp2_session *session, int32_t stream_id, uint32_t code, void *of
) noexcept:
    cdef Nghttp2Session self = <Nghttp2Session>of
    self.is_amid_head = False
    try:
        self.replies.pop(stream_id, None)
        if self.taker is not None:  # the library tells of all streams while it is freed
            self.taker.on_close(stream_id, code)
    except BaseException as bug:
        self.bug = bug
        return CALLBACK_FAILURE
    return 0


cdef ssize_t read_reply(
    nghttp2_session *session, int32_t stream_id, uint8_t *into, size_t room, uint32_t *flags,
    nghttp2_data_source *source, void *of,
) noexcept:
    cdef Reply reply = <Reply>source.ptr
    cdef nghttp2_nv values[MAX_FIELDS]
    cdef size_t left = PyBytes_GET_SIZE(reply.body) - reply.sent
    cdef size_t part = min(left, room)
    memcpy(into, PyBytes_AS_STRING(reply.body) + reply.sent, part)
    reply.sent += part
    if part == left:
        flags[0] |= EOF_FLAG
        if reply.trailers is not None:
            flags[0] |= NO_END_STREAM
            nghttp2_submit_trailer(session, stream_id, values, split(reply.trailers, values))
    return part


cdef nghttp2_session_callbacks *CALLBACKS

if nghttp2_session_callbacks_new(&CALLBACKS):
    raise MemoryError
nghttp2_session_callbacks_set_on_begin_headers_callback(CALLBACKS, on_begin_headers)
nghttp2_session_callbacks_set_on_header_callback(CALLBACKS, on_header)
nghttp2_session_callbacks_set_on_data_chunk_recv_callback(CALLBACKS, on_data)
nghttp2_session_callbacks_set_on_frame_recv_callback(CALLBACKS, on_frame)
nghttp2_session_callbacks_set_on_frame_send_callback(CALLBACKS, on_sent)
nghttp2_session_callbacks_set_on_stream_close_callback(CALLBACKS, on_close)
