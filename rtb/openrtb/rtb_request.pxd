# cython: language_level=3
"""The types of rtb_request.py, for Cython."""

cimport cython

ctypedef unsigned long long Number
ctypedef const unsigned char *Bytes

cdef int _VARINT, _LENGTH
cdef Number _MOST_TAG, _LOW_HALF
cdef long long _SIGN
cdef Number _OF_RTB_REQUEST, _OF_BID_REQUEST, _OF_DEVICE, _OF_DEVICE_EXT, _OF_USER, _OF_USER_EXT
cdef Number _OF_EID, _OF_DATA, _OF_REGS, _OF_REGS_EXT

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
cdef object _read_regs_ext(Bytes raw, Py_ssize_t at, Py_ssize_t end, _SaidOfRegs said)

@cython.locals(
    field=Number, wire=cython.int, _value=Number, start=cython.Py_ssize_t,
    at=cython.Py_ssize_t, end=cython.Py_ssize_t, segment_ids=list,
)
cpdef tuple read_data(bytes raw)

@cython.locals(field=Number, wire=cython.int, _value=Number, start=cython.Py_ssize_t)
cdef object _read_bid_request(Bytes raw, Py_ssize_t at, Py_ssize_t end, _Said said)

@cython.locals(field=Number, wire=cython.int, _value=Number, start=cython.Py_ssize_t)
cdef object _read_user(Bytes raw, Py_ssize_t at, Py_ssize_t end, _Said said)

@cython.locals(field=Number, wire=cython.int, _value=Number, start=cython.Py_ssize_t)
cdef object _read_user_ext(Bytes raw, Py_ssize_t at, Py_ssize_t end, _Said said)

@cython.locals(
    field=Number, wire=cython.int, _value=Number, start=cython.Py_ssize_t,
    first=cython.Py_ssize_t, n=cython.Py_ssize_t,
)
cdef object _read_eid(Bytes raw, Py_ssize_t at, Py_ssize_t end, list uids)

@cython.locals(field=Number, wire=cython.int, value=Number, start=cython.Py_ssize_t)
cdef object _read_device(Bytes raw, Py_ssize_t at, Py_ssize_t end, _Said said)

@cython.locals(field=Number, wire=cython.int, value=Number, _start=cython.Py_ssize_t)
cdef object _read_device_ext(Bytes raw, Py_ssize_t at, Py_ssize_t end, _Said said)

@cython.locals(field=Number, wire=cython.int, _value=Number, start=cython.Py_ssize_t)
cdef object _read_publisher_of(Bytes raw, Py_ssize_t at, Py_ssize_t end, Number number, object before)

@cython.locals(field=Number, wire=cython.int, _value=Number, start=cython.Py_ssize_t)
cdef object _read_id_or(Bytes raw, Py_ssize_t at, Py_ssize_t end, Number number, object before)

@cython.locals(value=Number)
cdef object _add_packed(list numbers, Bytes raw, Py_ssize_t at, Py_ssize_t end)

cdef object _flag(int wire, Number value)

cdef object _text_of(Bytes raw, Py_ssize_t at, Py_ssize_t end, int wire)

cdef object _text(Bytes raw, Py_ssize_t at, Py_ssize_t end)

@cython.locals(low=cython.longlong)
cdef long long _int32(Number value) noexcept

@cython.locals(key=Number, wire=cython.int, value=Number, size=Number, start=cython.Py_ssize_t)
cdef (Number, int, Number, Py_ssize_t, Py_ssize_t) _field(
    Bytes raw, Py_ssize_t at, Py_ssize_t end, Number wanted
) noexcept

@cython.locals(value=Number, byte=Number, shift=cython.int)
cdef (Number, Py_ssize_t) _varint(Bytes raw, Py_ssize_t at, Py_ssize_t end) noexcept
