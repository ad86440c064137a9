# cython: language_level=3
"""The types of vendor_section.py, for Cython."""

cimport cython

ctypedef unsigned long long Number
ctypedef const unsigned char *Bytes

cdef Py_ssize_t _BITS, _ID_BITS
cdef Number _ONE

@cython.locals(
    end=cython.Py_ssize_t, last=Number, is_of_ranges=cython.bint, count=Number,
    bit=cython.Py_ssize_t, is_named=cython.bint,
)
cpdef tuple read_section(bytes sextets, Py_ssize_t at, Number vendor)

@cython.locals(
    end=cython.Py_ssize_t, is_named=cython.bint, is_range=cython.bint, first=Number, last=Number,
)
cpdef tuple walk(bytes sextets, Py_ssize_t at, Py_ssize_t count, Number vendor)

@cython.locals(number=Number, end=cython.Py_ssize_t, n=cython.Py_ssize_t, surplus=cython.int)
cpdef Number bits_at(Bytes sextets, Py_ssize_t at, int count) noexcept
