# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""
Where the members that we read stand in a bid request: one pass over its bytes.

msgspec reads a body of which we use a tenth by stepping over the rest a byte at a
time, and says what stood there, but not where; so the body was gone over four
times: to decode it, to see that it is UTF-8, to see that no member is there that
may not leave, and to find again where the user stands. This goes over it once,
sixteen bytes of a string at a time, and only notes places.

It answers for plain requests alone, of which nobody could think otherwise: valid
JSON by the letter of RFC 8259, nested no deeper than `MAX_DEPTH`, no backslash in
a name, no lone surrogate, none of the members that we read there twice or of
another type than theirs, none of the forbidden names anywhere. Of all others it
says nothing, and `decode` reads them as it always did: what is malformed, and why,
is decided in one place. Where there is no C compiler that is the place for all.

No object of Python is touched between the first byte and the last. Behind the last
one stands a zero, as behind all `bytes`: it fits nowhere, so nothing reads past it,
but for strings, which look ahead and mind the end.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcmp

ctypedef const unsigned char *Bytes

cdef extern from *:
    """
    #if defined(__GNUC__) && defined(__SSE2__)
    #include <emmintrin.h>
    #define LOOKS_AHEAD 16
    /* A bit for each byte that ends a plain run: a quote, a backslash, a control character. */
    static inline unsigned ends_in(__m128i text) {
        return (unsigned)_mm_movemask_epi8(_mm_or_si128(
            _mm_or_si128(
                _mm_cmpeq_epi8(text, _mm_set1_epi8('"')), _mm_cmpeq_epi8(text, _mm_set1_epi8('\\\\'))),
            _mm_cmpeq_epi8(_mm_min_epu8(text, _mm_set1_epi8(0x1F)), text)));
    }
    static inline int plain_run(const unsigned char *at, int *highs) {
        __m128i text = _mm_loadu_si128((const __m128i *)at);
        unsigned ends = ends_in(text);
        *highs |= _mm_movemask_epi8(text);
        return ends ? __builtin_ctz(ends) : LOOKS_AHEAD;
    }
    #else
    #define LOOKS_AHEAD PY_SSIZE_T_MAX
    static inline int plain_run(const unsigned char *at, int *highs) { return 0; }
    #endif
    """
    Py_ssize_t LOOKS_AHEAD
    int plain_run(Bytes at, int *highs) noexcept nogil

cdef enum:
    MAX_DEPTH = 64
    MAX_NAMES = 16
    MAX_TMAX_DIGITS = 9

cdef enum Place:
    TOP
    USER
    ELSEWHERE

cdef struct Span:
    Bytes at
    Bytes end  # NULL: not there

cdef struct Names:
    int count
    Py_ssize_t sizes[MAX_NAMES]
    Bytes texts[MAX_NAMES]

cdef struct Scan:
    Bytes end
    const Names *forbidden
    int highs  # not 0: there is a byte above 127
    Span id
    Span tmax
    Span user
    Span data
    Span device
    Span regs


cdef class Scanner:
    """
    Scans bid requests.

    Args:
        forbidden: Names of members, plain ASCII; a body in which one of them
            stands as a name, wherever, is not plain.
    """

    cdef tuple _kept
    cdef Names _forbidden

    def __init__(self, forbidden):
        self._kept = tuple(forbidden)
        if len(self._kept) > MAX_NAMES:
            raise ValueError(f"more than {MAX_NAMES} names")
        self._forbidden.count = len(self._kept)
        for n, name in enumerate(self._kept):
            self._forbidden.texts[n] = <Bytes>PyBytes_AS_STRING(name)
            self._forbidden.sizes[n] = PyBytes_GET_SIZE(name)

    def __call__(self, bytes body):
        """
        Say where the members are that we read.

        Returns:
            `None` of a body that is not plain. Else `user`, `device` and `regs`
            as they stand there, empty where they don't; `tmax`; where `user` and
            `user.data` end in the body, 0 if they are not there; and whether all
            is ASCII. That it is UTF-8 else is not known.
        """
        cdef Scan scan
        cdef Bytes start = <Bytes>PyBytes_AS_STRING(body)
        cdef Bytes at
        scan.end = start + PyBytes_GET_SIZE(body)
        scan.forbidden = &self._forbidden
        scan.highs = 0
        scan.id.end = scan.tmax.end = scan.user.end = NULL
        scan.data.end = scan.device.end = scan.regs.end = NULL
        # The interpreter's lock is kept: letting go of it costs a tenth of this.
        at = _past_space(start)
        if at[0] != c'{':
            return None
        at = _past_object(&scan, at, 1, TOP)
        if at == NULL or _past_space(at) != scan.end or scan.id.end == NULL:
            return None
        return (
            _bytes_of(&scan.user),
            _bytes_of(&scan.device),
            _bytes_of(&scan.regs),
            None if scan.tmax.end == NULL else int(_bytes_of(&scan.tmax)),
            0 if scan.user.end == NULL else scan.user.end - start,
            0 if scan.data.end == NULL else scan.data.end - start,
            not scan.highs,
        )


cdef bytes _bytes_of(Span *span):
    if span.end == NULL:
        return b""
    return PyBytes_FromStringAndSize(<const char *>span.at, span.end - span.at)


# Each of these is given where something begins, and returns where it is over; NULL if
# it is not plain, or no JSON.


cdef inline Bytes _past_space(Bytes at) noexcept nogil:
    while at[0] <= c' ' and (
        at[0] == c' ' or at[0] == c'\n' or at[0] == c'\r' or at[0] == c'\t'
    ):
        at += 1
    return at


cdef Bytes _past_object(Scan *scan, Bytes at, int depth, Place place) noexcept nogil:
    cdef Bytes name, value
    cdef Py_ssize_t size
    cdef Span *span
    if depth > MAX_DEPTH:
        return NULL
    at = _past_space(at + 1)
    if at[0] == c'}':
        return at + 1
    while at[0] == c'"':
        name = at + 1
        at = _past_name(name)
        if at == NULL:
            return NULL
        size = at - name - 1
        if _is_forbidden(scan, name, size):
            return NULL
        at = _past_space(at)
        if at[0] != c':':
            return NULL
        value = at = _past_space(at + 1)
        span = NULL if place == ELSEWHERE else _span_of(scan, name, size, place)
        if span == NULL:
            at = _past_value(scan, at, depth)
        elif span.end != NULL or not _is_of_type(scan, span, at):
            return NULL
        elif span == &scan.user:
            at = _past_object(scan, at, depth + 1, USER)
        else:
            at = _past_value(scan, at, depth)
        if at == NULL:
            return NULL
        if span != NULL:
            span.at = value
            span.end = at
            if span == &scan.tmax and not _is_short_number(span):
                return NULL
        at = _past_space(at)
        if at[0] == c'}':
            return at + 1
        if at[0] != c',':
            return NULL
        at = _past_space(at + 1)
    return NULL


cdef inline Bytes _past_name(Bytes at) noexcept nogil:
    """Begins behind the opening quote, and ends behind the closing one."""
    while at[0] != c'"':
        if at[0] < 0x20 or at[0] > 0x7F or at[0] == c'\\':
            return NULL
        at += 1
    return at + 1


cdef inline bint _is_forbidden(Scan *scan, Bytes name, Py_ssize_t size) noexcept nogil:
    cdef int n
    for n in range(scan.forbidden.count):
        if size == scan.forbidden.sizes[n] and not memcmp(name, scan.forbidden.texts[n], size):
            return True
    return False


cdef Span *_span_of(Scan *scan, Bytes name, Py_ssize_t size, Place place) noexcept nogil:
    if place == USER:
        return &scan.data if size == 4 and not memcmp(name, b"data", 4) else NULL
    if size == 2:
        return &scan.id if not memcmp(name, b"id", 2) else NULL
    if size == 6:
        return &scan.device if not memcmp(name, b"device", 6) else NULL
    if size == 4:
        if not memcmp(name, b"user", 4):
            return &scan.user
        if not memcmp(name, b"regs", 4):
            return &scan.regs
        if not memcmp(name, b"tmax", 4):
            return &scan.tmax
    return NULL


cdef inline bint _is_of_type(Scan *scan, Span *span, Bytes at) noexcept nogil:
    if span == &scan.id or span == &scan.tmax:
        return True
    return at[0] == (c'[' if span == &scan.data else c'{')


cdef bint _is_short_number(Span *span) noexcept nogil:
    cdef Py_ssize_t n
    if span.end - span.at > MAX_TMAX_DIGITS:
        return False
    for n in range(span.end - span.at):
        if not _is_digit(span.at[n]):
            return False
    return True


cdef Bytes _past_value(Scan *scan, Bytes at, int depth) noexcept nogil:
    cdef unsigned char first = at[0]
    if first == c'"':
        return _past_string(scan, at + 1)
    if first == c'{':
        return _past_object(scan, at, depth + 1, ELSEWHERE)
    if first == c'[':
        return _past_array(scan, at, depth + 1)
    if first == c't':
        return _past_word(scan, at, b"true", 4)
    if first == c'f':
        return _past_word(scan, at, b"false", 5)
    if first == c'n':
        return _past_word(scan, at, b"null", 4)
    return _past_number(at)


cdef Bytes _past_array(Scan *scan, Bytes at, int depth) noexcept nogil:
    if depth > MAX_DEPTH:
        return NULL
    at = _past_space(at + 1)
    if at[0] == c']':
        return at + 1
    while True:
        at = _past_value(scan, at, depth)
        if at == NULL:
            return NULL
        at = _past_space(at)
        if at[0] == c']':
            return at + 1
        if at[0] != c',':
            return NULL
        at = _past_space(at + 1)


cdef Bytes _past_word(Scan *scan, Bytes at, const char *word, Py_ssize_t size) noexcept nogil:
    if scan.end - at < size or memcmp(at, word, size):
        return NULL
    return at + size


cdef Bytes _past_number(Bytes at) noexcept nogil:
    if at[0] == c'-':
        at += 1
    if not _is_digit(at[0]):
        return NULL
    at = at + 1 if at[0] == c'0' else _past_digits(at)
    if at[0] == c'.':
        at += 1
        if not _is_digit(at[0]):
            return NULL
        at = _past_digits(at)
    if at[0] == c'e' or at[0] == c'E':
        at += 1
        if at[0] == c'+' or at[0] == c'-':
            at += 1
        if not _is_digit(at[0]):
            return NULL
        at = _past_digits(at)
    return at


cdef inline bint _is_digit(unsigned char char) noexcept nogil:
    return c'0' <= char <= c'9'


cdef inline Bytes _past_digits(Bytes at) noexcept nogil:
    while _is_digit(at[0]):
        at += 1
    return at


cdef Bytes _past_string(Scan *scan, Bytes at) noexcept nogil:
    """Begins behind the opening quote, and ends behind the closing one."""
    cdef int run
    cdef int highs = 0
    while True:
        if scan.end - at >= LOOKS_AHEAD:
            run = plain_run(at, &highs)
            at += run
            if run == LOOKS_AHEAD:
                continue
        if at[0] == c'"':
            scan.highs |= highs
            return at + 1
        if at[0] < 0x20:
            return NULL
        if at[0] == c'\\':
            at = _past_escape(at)
            if at == NULL:
                return NULL
        else:
            highs |= at[0] & 0x80
            at += 1


cdef Bytes _past_escape(Bytes at) noexcept nogil:
    cdef unsigned int code = 0
    cdef unsigned char char = at[1]
    cdef int n
    if (
        char == c'"' or char == c'\\' or char == c'/' or char == c'b'
        or char == c'f' or char == c'n' or char == c'r' or char == c't'
    ):
        return at + 2
    if char != c'u':
        return NULL
    for n in range(2, 6):
        char = at[n]
        if _is_digit(char):
            code = code << 4 | (char - c'0')
        elif c'a' <= (char | 0x20) <= c'f':
            code = code << 4 | ((char | 0x20) - c'a' + 10)
        else:
            return NULL
    return NULL if 0xD800 <= code <= 0xDFFF else at + 6
