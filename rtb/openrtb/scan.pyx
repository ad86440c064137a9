# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""
The places of the members that we read in a bid request: one pass over its bytes.

msgspec steps over the rest of a body, nine tenths of it, a byte at a time, and reports no places.
With msgspec alone, a body takes four passes: to decode it, to check UTF-8, to look for members that
may not leave, and to find the user again. This pass takes 16 bytes of a string at a time, and only
notes places.

It answers for plain requests alone: valid JSON (RFC 8259), nested no deeper than `MAX_DEPTH`, no
backslash in a name, none of the members that we read twice or of another type, no forbidden name
anywhere. For all others it confirms at most that no member is there twice, and `decode` reads them:
one place decides what is malformed, and why. Without a C compiler `decode` reads all requests.

No Python object is touched between the first byte and the last. A zero follows the last byte, as in
all `bytes`; it fits nowhere in JSON, so nothing reads past it except strings, which look ahead and
check the end.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_FromStringAndSize
from libc.string cimport memcmp, memcpy, memset

from rtb.openrtb.views import UidExt

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
    USER_EXT
    DEVICE
    DEVICE_EXT
    REGS
    REGS_EXT
    ELSEWHERE
    PLACES = ELSEWHERE

cdef struct Span:
    Bytes at
    Bytes end  # NULL: absent

cdef struct Names:
    int count
    Py_ssize_t sizes[MAX_NAMES]
    Bytes texts[MAX_NAMES]

cdef struct Scan:
    Bytes end
    const Names *forbidden
    const Names *telling  # one for each place
    unsigned int told[PLACES]  # a bit for each of its names that was there
    bint tells[PLACES]
    bint is_forbidden
    int highs  # not 0: there is a byte above 127
    Span id
    Span tmax
    Span user
    Span eids
    Span data
    Span user_ext
    Span user_ext_eids
    Span device
    Span device_ext
    Span regs
    Span regs_ext
    Span members[PLACES][MAX_NAMES]  # those told, each from the quote of its name; else not set


cdef class Scanner:
    """
    Scans bid requests.

    Args:
        forbidden: Names, plain ASCII; a body with such a member anywhere is not plain.
        user, user_ext, device, device_ext: Members to decode; each `ext` has its own. A plain 0 in
            a device says nothing, nor does a plain 3 in its `ext`.
        regs, regs_ext: The members that are read there.

    Raises:
        ValueError: More names than `MAX_NAMES`.
    """

    cdef list _kept
    cdef Names _forbidden
    cdef Names _telling[PLACES]

    def __init__(self, forbidden, *, user, user_ext, device, device_ext, regs, regs_ext):
        self._kept = []
        self._keep(forbidden, &self._forbidden)
        self._telling[<int>TOP].count = 0
        self._keep(user, &self._telling[<int>USER])
        self._keep(user_ext, &self._telling[<int>USER_EXT])
        self._keep(device, &self._telling[<int>DEVICE])
        self._keep(device_ext, &self._telling[<int>DEVICE_EXT])
        self._keep(regs, &self._telling[<int>REGS])
        self._keep(regs_ext, &self._telling[<int>REGS_EXT])

    cdef _keep(self, texts, Names *names):
        texts = list(texts)
        if len(texts) > MAX_NAMES:
            raise ValueError(f"more than {MAX_NAMES} names")
        self._kept.append(texts)
        names.count = len(texts)
        for n, text in enumerate(texts):
            names.texts[n] = <Bytes>PyBytes_AS_STRING(text)
            names.sizes[n] = PyBytes_GET_SIZE(text)

    def __call__(self, bytes body):
        """
        Return the places of the members that we read.

        Returns:
            A `rtb.openrtb.places.Scanned`. If the body is not plain, `None`; `False` if only a
            forbidden name is the reason.
        """
        cdef Scan scan
        cdef Bytes start = <Bytes>PyBytes_AS_STRING(body)
        cdef Bytes at
        cdef list uids = None
        cdef list uids_25
        # All spans are absent. `members`, the largest part and the last, is valid where `told` is.
        memset(&scan, 0, sizeof(scan) - sizeof(scan.members))
        scan.end = start + PyBytes_GET_SIZE(body)
        scan.forbidden = &self._forbidden
        scan.telling = self._telling
        # The interpreter's lock is kept: its release costs a tenth of this pass.
        at = start
        if scan.end - start > 3 and at[0] == 0xEF and at[1] == 0xBB and at[2] == 0xBF:
            at += 3  # a byte order mark, which is not ASCII
            scan.highs = 1
        at = _past_space(at)
        if at[0] != c'{':
            return None
        at = _past_object(&scan, at, 1, TOP)
        if at == NULL or _past_space(at) != scan.end or scan.id.end == NULL:
            return None
        if scan.is_forbidden:
            return False
        uids = _uids_of(&scan, &scan.eids)
        if uids is not None and scan.user_ext_eids.end != NULL:
            uids_25 = _uids_of(&scan, &scan.user_ext_eids)
            uids = None if uids_25 is None else uids + uids_25
        return (
            uids,
            _telling_of(&scan, USER, USER_EXT),
            0 if scan.user.end == NULL else scan.user.at - start,
            0 if scan.user.end == NULL else scan.user.end - start,
            0 if scan.data.end == NULL else scan.data.at - start,
            0 if scan.data.end == NULL else scan.data.end - start,
            _telling_of(&scan, DEVICE, DEVICE_EXT),
            _bytes_of(&scan.regs),
            None if scan.tmax.end == NULL else int(_bytes_of(&scan.tmax)),
            not scan.highs,
        )


cdef bytes _bytes_of(Span *span):
    if span.end == NULL:
        return b""
    return PyBytes_FromStringAndSize(<const char *>span.at, span.end - span.at)


cdef bytes _telling_of(Scan *scan, Place place, Place place_of_ext):
    """
    Return an object with only the members of a place, and of its `ext`, that were told.

    Returns:
        JSON; empty if all of them say nothing.
    """
    cdef Py_ssize_t size
    cdef bytes telling
    if not scan.tells[<int>place] and not scan.tells[<int>place_of_ext]:
        return b""
    size = _put(scan, place, place_of_ext, NULL)
    telling = PyBytes_FromStringAndSize(NULL, size)
    _put(scan, place, place_of_ext, PyBytes_AS_STRING(telling))
    return telling


cdef Py_ssize_t _put(Scan *scan, Place place, int place_of_ext, char *out) noexcept nogil:
    """Write such an object, without `ext` if its place is -1; only measure it if `out` is NULL."""
    cdef Py_ssize_t size = 1, part
    cdef int n
    cdef Span *member
    if out != NULL:
        out[0] = c'{'
    for n in range(scan.telling[<int>place].count):
        if scan.told[<int>place] >> n & 1:
            member = &scan.members[<int>place][n]
            part = member.end - member.at
            if out != NULL:
                memcpy(out + size, member.at, part)
                out[size + part] = c','
            size += part + 1
    if place_of_ext >= 0 and scan.told[place_of_ext]:
        if out != NULL:
            memcpy(out + size, <const char *>b'"ext":', 6)
        size += 6
        size += _put(scan, <Place>place_of_ext, -1, NULL if out == NULL else out + size)
    elif size > 1:
        size -= 1  # the comma after the last
    if out != NULL:
        out[size] = c'}'
    return size + 1


# These functions walk through JSON that the scan has found valid.


cdef list _uids_of(Scan *scan, Span *eids):
    """
    Read `eids` (3.2.27), as `rtb.openrtb.uids.uids_of` does.

    Returns:
        `None` if a string that is read is not plain ASCII, or no string.
    """
    cdef list uids = []
    cdef Bytes at
    if eids.end == NULL:
        return uids
    at = _past_space(eids.at + 1)
    while at[0] != c']':
        at = _past_eid(scan, at, uids)
        if at == NULL:
            return None
        at = _past_comma(at)
    return uids


cdef Bytes _past_eid(Scan *scan, Bytes at, list uids):
    cdef Span found[2]  # source, uids
    cdef Span uid[2]  # id, ext
    cdef Span of_ext[2]  # stype, provider
    cdef Bytes end, each
    if at[0] != c'{':
        return NULL
    end = _past_members(scan, at, found, b"source", 6, b"uids", 4)
    if end == NULL or not _is_plain_string(&found[0]) or found[1].end == NULL or found[1].at[0] != c'[':
        return NULL
    source = _text_of(&found[0])
    each = _past_space(found[1].at + 1)
    while each[0] != c']':
        if each[0] != c'{':
            return NULL
        each = _past_members(scan, each, uid, b"id", 2, b"ext", 3)
        if each == NULL or not _is_plain_string(&uid[0]):
            return NULL
        ext = None
        if uid[1].end != NULL and uid[1].at[0] == c'{':
            if _past_members(scan, uid[1].at, of_ext, b"stype", 5, b"provider", 8) == NULL:
                return NULL
            if of_ext[0].end != NULL or of_ext[1].end != NULL:
                if not _is_absent_or_plain(&of_ext[0]) or not _is_absent_or_plain(&of_ext[1]):
                    return NULL
                ext = UidExt(_text_or_none(&of_ext[0]), _text_or_none(&of_ext[1]))
        uids.append((source, _text_of(&uid[0]), ext))
        each = _past_comma(each)
    return end


cdef inline bint _is_absent_or_plain(Span *span) noexcept nogil:
    return span.end == NULL or _is_plain_string(span)


cdef inline object _text_or_none(Span *string):
    return None if string.end == NULL else _text_of(string)


cdef Bytes _past_members(
    Scan *scan,
    Bytes at,
    Span *found,
    const char *first,
    Py_ssize_t first_size,
    const char *second,
    Py_ssize_t second_size,
) noexcept nogil:
    """Find two members of an object; NULL if either is there twice."""
    cdef Bytes name
    cdef Py_ssize_t size
    cdef Span *span
    found[0].end = found[1].end = NULL
    at = _past_space(at + 1)
    while at[0] != c'}':
        name = at + 1
        at = _past_name(name)
        size = at - name - 1
        span = NULL
        if size == first_size and not memcmp(name, first, size):
            span = &found[0]
        elif size == second_size and not memcmp(name, second, size):
            span = &found[1]
        at = _past_space(_past_space(at) + 1)
        if span == NULL:
            at = _past_value(scan, at, 0)
        elif span.end != NULL:
            return NULL
        else:
            span.at = at
            at = span.end = _past_value(scan, at, 0)
        at = _past_comma(at)
    return at + 1


cdef inline Bytes _past_comma(Bytes at) noexcept nogil:
    at = _past_space(at)
    return _past_space(at + 1) if at[0] == c',' else at


cdef bint _is_plain_string(Span *span) noexcept nogil:
    cdef Bytes at = span.at
    if span.end == NULL or at[0] != c'"':
        return False
    while at < span.end:
        if at[0] == c'\\' or at[0] > 0x7F:
            return False
        at += 1
    return True


cdef str _text_of(Span *string):
    return PyUnicode_FromStringAndSize(<const char *>string.at + 1, string.end - string.at - 2)


# Each of these takes a value's start and returns its end; NULL if it is not plain, or no JSON.


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
    cdef int told
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
        if _place_in(scan.forbidden, name, size) >= 0:
            scan.is_forbidden = True
        at = _past_space(at)
        if at[0] != c':':
            return NULL
        value = at = _past_space(at + 1)
        told = -1 if place == ELSEWHERE else _place_in(&scan.telling[<int>place], name, size)
        span = NULL if place == ELSEWHERE else _span_of(scan, name, size, place)
        if span == NULL:
            at = _past_value(scan, at, depth) if told < 0 else _past_unique(scan, at, depth)
        elif span.end != NULL or not _is_of_type(scan, span, at):
            return NULL
        elif at[0] == c'{':
            at = _past_object(scan, at, depth + 1, _place_of(scan, span))
        elif span == &scan.eids or span == &scan.user_ext_eids:
            at = _past_unique(scan, at, depth)
        else:
            at = _past_value(scan, at, depth)
        if at == NULL:
            return NULL
        if told >= 0:
            if scan.told[<int>place] >> told & 1:
                return NULL
            scan.told[<int>place] |= <unsigned int>1 << told
            scan.members[<int>place][told].at = name - 1
            scan.members[<int>place][told].end = at
            if at - value > 1 or value[0] != _silent_in(place):
                scan.tells[<int>place] = True
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
    """From after the opening quote to after the closing quote."""
    while at[0] != c'"':
        if at[0] < 0x20 or at[0] > 0x7F or at[0] == c'\\':
            return NULL
        at += 1
    return at + 1


cdef inline int _place_in(const Names *names, Bytes name, Py_ssize_t size) noexcept nogil:
    """Return the index of a name; -1: not among them."""
    cdef int n
    for n in range(names.count):
        if size == names.sizes[n] and not memcmp(name, names.texts[n], size):
            return n
    return -1


cdef inline unsigned char _silent_in(Place place) noexcept nogil:
    """Return the value with which a member of a place requires nothing; 0: no such value."""
    if place == DEVICE:
        return c'0'
    return c'3' if place == DEVICE_EXT else 0


cdef Bytes _past_unique(Scan *scan, Bytes at, int depth) noexcept nogil:
    """Pass a value without an object that has a name twice, or too many names to check."""
    cdef Names seen
    cdef Bytes name
    cdef Py_ssize_t size
    cdef unsigned char last
    if at[0] != c'{' and at[0] != c'[':
        return _past_value(scan, at, depth)
    depth += 1
    if depth > MAX_DEPTH:
        return NULL
    seen.count = 0
    last = at[0] + 2  # the closing bracket of either
    at = _past_space(at + 1)
    if at[0] == last:
        return at + 1
    while True:
        if last == c'}':
            if at[0] != c'"' or seen.count == MAX_NAMES:
                return NULL
            name = at + 1
            at = _past_name(name)
            if at == NULL:
                return NULL
            size = at - name - 1
            if _place_in(&seen, name, size) >= 0:
                return NULL
            seen.texts[seen.count] = name
            seen.sizes[seen.count] = size
            seen.count += 1
            if _place_in(scan.forbidden, name, size) >= 0:
                scan.is_forbidden = True
            at = _past_space(at)
            if at[0] != c':':
                return NULL
            at = _past_space(at + 1)
        at = _past_unique(scan, at, depth)
        if at == NULL:
            return NULL
        at = _past_space(at)
        if at[0] == last:
            return at + 1
        if at[0] != c',':
            return NULL
        at = _past_space(at + 1)


cdef Span *_span_of(Scan *scan, Bytes name, Py_ssize_t size, Place place) noexcept nogil:
    if place == TOP:
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
    elif place == USER:
        if size == 4:
            if not memcmp(name, b"data", 4):
                return &scan.data
            if not memcmp(name, b"eids", 4):
                return &scan.eids
        elif size == 3 and not memcmp(name, b"ext", 3):
            return &scan.user_ext
    elif place == USER_EXT:
        if size == 4 and not memcmp(name, b"eids", 4):
            return &scan.user_ext_eids
    elif size == 3 and not memcmp(name, b"ext", 3):
        if place == DEVICE:
            return &scan.device_ext
        if place == REGS:
            return &scan.regs_ext
    return NULL


cdef inline Place _place_of(Scan *scan, Span *span) noexcept nogil:
    """Return the place of a span's object."""
    if span == &scan.user:
        return USER
    if span == &scan.user_ext:
        return USER_EXT
    if span == &scan.device:
        return DEVICE
    if span == &scan.device_ext:
        return DEVICE_EXT
    if span == &scan.regs:
        return REGS
    return REGS_EXT if span == &scan.regs_ext else ELSEWHERE


cdef inline bint _is_of_type(Scan *scan, Span *span, Bytes at) noexcept nogil:
    if span == &scan.id or span == &scan.tmax:
        return True
    if span == &scan.eids or span == &scan.data or span == &scan.user_ext_eids:
        return at[0] == c'['
    if at[0] == c'{':
        return True
    # Null, and PHP's empty object, hold nothing. A user must be an object: it may grow.
    return span != &scan.user and (
        at[0] == c'n' or (at[0] == c'[' and _past_space(at + 1)[0] == c']')
    )


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
    """From after the opening quote to after the closing quote."""
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
    cdef unsigned char char = at[1]
    cdef int n
    if (
        char == c'"' or char == c'\\' or char == c'/' or char == c'b'
        or char == c'f' or char == c'n' or char == c'r' or char == c't'
    ):
        return at + 2
    if char != c'u':
        return NULL
    # The grammar has surrogates without their other half, too (RFC 8259, 8.2).
    for n in range(2, 6):
        char = at[n]
        if not _is_digit(char) and not c'a' <= (char | 0x20) <= c'f':
            return NULL
    return at + 6
