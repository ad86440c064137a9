# cython: language_level=3
"""The types of rtb_request.py, for Cython."""

cimport cython

ctypedef unsigned long long Number

cdef int _VARINT, _LENGTH
cdef Number _MOST_TAG

cdef class _Said:
    cdef bint has_bid_request_id, is_odd
    cdef int dnt, lmt
    cdef object atts, ifa, buyeruid, consent, consent_25, site, app, dooh
    cdef bytes regs
    cdef list uids, uids_25, data

cdef class _SaidOfRegs:
    cdef bint is_odd
    cdef object coppa, gdpr, gdpr_25, gpc, gpp, us_privacy, us_privacy_25
    cdef list gpp_sid

@cython.locals(
    field=Number, wire=cython.int, value=Number, start=cython.Py_ssize_t,
    at=cython.Py_ssize_t, end=cython.Py_ssize_t, said=_Said, intents=list,
)
cpdef tuple read_rtb_request(bytes raw)

@cython.locals(
    field=Number, wire=cython.int, value=Number, start=cython.Py_ssize_t,
    at=cython.Py_ssize_t, end=cython.Py_ssize_t, said=_SaidOfRegs,
)
cpdef tuple read_regs(bytes raw)

@cython.locals(field=Number, wire=cython.int, value=Number, start=cython.Py_ssize_t)
cdef object _read_regs_ext(bytes raw, Py_ssize_t at, Py_ssize_t end, _SaidOfRegs said)

@cython.locals(
    field=Number, wire=cython.int, _value=Number, start=cython.Py_ssize_t,
    at=cython.Py_ssize_t, end=cython.Py_ssize_t, segment_ids=list,
)
cpdef tuple read_data(bytes raw)

@cython.locals(field=Number, wire=cython.int, _value=Number, start=cython.Py_ssize_t)
cdef object _read_bid_request(bytes raw, Py_ssize_t at, Py_ssize_t end, _Said said)

@cython.locals(field=Number, wire=cython.int, _value=Number, start=cython.Py_ssize_t)
cdef object _read_user(bytes raw, Py_ssize_t at, Py_ssize_t end, _Said said)

@cython.locals(field=Number, wire=cython.int, _value=Number, start=cython.Py_ssize_t)
cdef object _read_user_ext(bytes raw, Py_ssize_t at, Py_ssize_t end, _Said said)

@cython.locals(
    field=Number, wire=cython.int, _value=Number, start=cython.Py_ssize_t,
    first=cython.Py_ssize_t, n=cython.Py_ssize_t,
)
cdef object _read_eid(bytes raw, Py_ssize_t at, Py_ssize_t end, list uids)

@cython.locals(field=Number, wire=cython.int, value=Number, start=cython.Py_ssize_t)
cdef object _read_device(bytes raw, Py_ssize_t at, Py_ssize_t end, _Said said)

@cython.locals(field=Number, wire=cython.int, value=Number, _start=cython.Py_ssize_t)
cdef object _read_device_ext(bytes raw, Py_ssize_t at, Py_ssize_t end, _Said said)

@cython.locals(field=Number, wire=cython.int, _value=Number, start=cython.Py_ssize_t)
cdef object _read_publisher_of(bytes raw, Py_ssize_t at, Py_ssize_t end, Number number, object before)

@cython.locals(field=Number, wire=cython.int, _value=Number, start=cython.Py_ssize_t)
cdef object _read_id_or(bytes raw, Py_ssize_t at, Py_ssize_t end, Number number, object before)

@cython.locals(value=Number)
cdef object _add_packed(list numbers, bytes raw, Py_ssize_t at, Py_ssize_t end)

cdef object _flag(int wire, Number value)

cdef object _text_of(bytes raw, Py_ssize_t at, Py_ssize_t end, int wire)

cdef object _text(bytes raw, Py_ssize_t at, Py_ssize_t end)

@cython.locals(low=cython.longlong)
cdef long long _int32(Number value) noexcept

@cython.locals(key=Number, wire=cython.int, value=Number)
cdef (Number, int, Number, Py_ssize_t, Py_ssize_t) _field(bytes raw, Py_ssize_t at, Py_ssize_t end) noexcept

@cython.locals(value=Number, byte=Number, shift=cython.int)
cdef (Number, Py_ssize_t) _varint(bytes raw, Py_ssize_t at, Py_ssize_t end) noexcept
