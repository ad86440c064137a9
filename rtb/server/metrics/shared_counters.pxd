# cython: language_level=3
"""The types of shared_counters.py, for Cython."""

cimport cython

cdef Py_ssize_t BATCH, BATCH_SUM, WAIT, NS_PER_S, _SUM_NS

cdef double[::1] _SECONDS_EDGES
cdef double[::1] _BATCH_EDGES
cdef dict _FIRST_OF_OUTCOME
cdef dict _NUMBER_OF_REASON
cdef dict _CELL_OF_KIND

cdef class SharedCounters:
    cdef readonly object cells
    cdef unsigned long long[::1] _counts
    cdef object _memory
    cdef object _names
    cdef object _said
    cdef dict _slots

    @cython.locals(at=cython.Py_ssize_t)
    cpdef count_request(
        self, Py_ssize_t base, Py_ssize_t timing, outcome, reason, double elapsed_s
    )

    @cython.final
    @cython.locals(bucket=cython.Py_ssize_t)
    cdef void _count_seconds(self, Py_ssize_t at, double elapsed_s) noexcept

    cpdef count_wait(self, double waited_s)

    @cython.locals(n=cython.Py_ssize_t, at=cython.Py_ssize_t)
    cpdef count_ids(self, tuple kinds, found, double waited_s)

    @cython.locals(bucket=cython.Py_ssize_t)
    cpdef count_round_trip(self, Py_ssize_t ids)
