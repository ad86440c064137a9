"""
Parses a file of typed columns to ids; `segments.ingest.crm_audience.columns` has the types.

    EMAIL,PHONE,AAID
    <64 hex>,<64 hex>,<36>        all there
    <64 hex>,,                    no phone, no device

Two ways through, with the same result:

- Lines of equal length form a matrix of bytes. A value has its type's length or is absent, so
  the length of a line leaves few places for its commas.
- Others line by line: quotes, padding, other titles and delimiters, invalid values.

An invalid value is counted, and sampled by line and reason, as in `segments.ingest.parse`; the
other values of its line count. Memory is one block.

Measured on one core: EMAIL, PHONE and AAID with a third of the cells empty 0.8 M rows/s, most of
it for the hashes of phones and device ids; EMAIL and POSTALADDRESS 2.9 M rows/s.
"""

import csv
from binascii import Error as NotHex
from binascii import unhexlify
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import product
from typing import NamedTuple, Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from segments.ingest.crm_audience.columns import (
    IN_BIDS,
    Columns,
    DataType,
    columns_and_delimiter,
)
from segments.ingest.crm_audience.distinct_values import Distinct
from segments.ingest.hash_value import is_null
from segments.ingest.header import known_text
from segments.ingest.lines import MAX_LINE_BYTES, Lines
from segments.ingest.parse import Ids, Parser, are_nobody
from segments.model.identity import ID_BYTES, NO_PERSON
from segments.model.job import BadLineReason

_HASH_CHARS = 64
_UUID_CHARS = 36
_DASHES = [8, 13, 18, 23]
_DIGITS_OF_UUID = [n for n in range(_UUID_CHARS) if n not in _DASHES]
_MAX_TYPED_FOR_MATRIX = 6
"""More columns have too many possible layouts."""

_NO_DIGIT = 255
_DIGIT = np.full(256, _NO_DIGIT, np.uint8)
for _n, _c in enumerate(b"0123456789abcdef"):
    _DIGIT[_c] = _DIGIT[ord(chr(_c).upper())] = _n

_Chars = NDArray[np.uint8]
_Good = NDArray[np.bool_]
_CHARS = dict.fromkeys(DataType, _HASH_CHARS) | {DataType.AAID: _UUID_CHARS}
_NO_IDS: Ids = np.empty((0, ID_BYTES), np.uint8)


class Sink(Protocol):
    """Receives the ids of one type."""

    def add(self, ids: Ids, /) -> None:
        """Take more ids."""

    def finish(self) -> None:
        """Take the end."""


class _Layout(NamedTuple):
    commas: list[int]
    cells: list[tuple[DataType, int, int]]


class TypedParser(Parser):
    """
    Parses the blocks of one file, in order, to ids.

    `valid` counts ids, `rows` lines, and `bad` invalid values and lines.
    """

    def __init__(self, columns: Columns, sinks: Mapping[DataType, Sink]) -> None:
        """The `sinks` also receive the ids of their type."""
        super().__init__()
        self._beginning = None  # the caller has read the header
        self.type_to_total = {kind: 0 for kind in DataType if kind in columns}
        self.type_to_distinct = {
            kind: Distinct() for kind in self.type_to_total if kind not in IN_BIDS
        }
        self._columns = columns
        self._sinks = sinks
        self._length_to_layouts = _layouts(columns)
        self._delimiter = ","
        self._records = 0
        self._dropped = 0

    @property
    def rows(self) -> int:
        """The records so far: lines that are neither blank nor a header."""
        return self._records

    @property
    def well_formed(self) -> int:
        """The values that fit their column, including those that become no id."""
        return self.valid + self._dropped

    def finish(self) -> Ids:
        """Finish, and finish the sinks."""
        ids = super().finish()
        for sink in self._sinks.values():
            sink.finish()
        return ids

    def _ids_of(self, text: bytes) -> Ids:
        if not text:
            return _NO_IDS
        raw = np.frombuffer(text, np.uint8)
        ends = np.flatnonzero(raw == ord("\n"))
        starts = np.concatenate(([0], ends[:-1] + 1))
        lengths = ends - starts
        lengths -= (lengths > 0) & (raw[ends - 1] == ord("\r"))
        is_left = lengths > 0
        if not self.header_rows and is_left.any():
            header = int(np.flatnonzero(is_left)[0])
            is_left[header] = False
            self.header_rows = 1
            self.header_line = self.lines + header + 1
            self._header_value = text[starts[header] : starts[header] + lengths[header]]
            self.header = known_text(self._header_value)
            named = columns_and_delimiter(self._header_value)
            if named is not None and named[1] != ",":
                self._delimiter = named[1]
                self._length_to_layouts = {}  # so lines are read singly

        found = [
            ids
            for length in np.flatnonzero(np.bincount(lengths[is_left])).tolist()
            for layout in self._length_to_layouts.get(length, ())
            for ids in self._regular(raw, starts, is_left, lengths == length, layout)
        ]
        first_line = self.lines
        for n in np.flatnonzero(is_left).tolist():
            self.lines = first_line + n + 1
            found += self._line(text[starts[n] : starts[n] + lengths[n]])
        self.lines = first_line + len(starts)
        return np.concatenate(found) if found else _NO_IDS

    def _regular(
        self,
        raw: _Chars,
        starts: NDArray[np.intp],
        is_left: NDArray[np.bool_],
        is_so_long: NDArray[np.bool_],
        layout: _Layout,
    ) -> Iterator[Ids]:
        """Yield the ids of the lines in a layout, cleared in `is_left`."""
        lines = np.flatnonzero(is_left & is_so_long)
        if layout.commas:
            at = starts[lines][:, None] + np.array(layout.commas)
            lines = lines[(raw[at] == ord(",")).all(axis=1)]
        if not len(lines):
            return
        # All cells first: a line is counted here as a whole, or read by itself.
        read = [
            (kind, *_values(raw, starts[lines] + start, kind)) for kind, start, _ in layout.cells
        ]
        is_good = np.logical_and.reduce([good for _, _, good in read])
        is_left[lines[is_good]] = False
        self._records += int(is_good.sum())
        for kind, values, _ in read:
            yield self._take(kind, values[is_good])

    def _take(self, kind: DataType, values: _Chars) -> Ids:
        self.type_to_total[kind] += len(values)
        if kind not in IN_BIDS:
            self._dropped += len(values)
            self.type_to_distinct[kind].add(values)
            return _NO_IDS
        ids = _ids(kind, values)
        self.valid += len(ids)
        if kind in self._sinks:
            self._sinks[kind].add(ids)
        return ids

    def _line(self, line: bytes) -> Iterator[Ids]:
        cells = _cells(line, self._delimiter)
        if len(cells) < 2 and not line.strip():
            return  # blanks without a delimiter
        if line == self._header_value:
            self.header_rows += 1  # of another shard
            return
        self._records += 1
        if len(line) > MAX_LINE_BYTES:
            self._bad(BadLineReason.TOO_LONG)
            return
        if len(cells) != len(self._columns):
            self._bad(BadLineReason.OTHER_COLUMNS)
            return
        for kind, cell in zip(self._columns, cells, strict=True):
            value = cell.strip().encode()
            if kind is None or not value or is_null(value):
                continue
            raw = np.frombuffer(value, np.uint8)
            values, is_good = (
                _values(raw, np.array([0]), kind)
                if len(value) == _CHARS[kind]
                else (raw, np.array([False]))
            )
            if is_good[0]:
                yield self._take(kind, values)
            else:
                self.type_to_total[kind] += 1
                self._bad(
                    BadLineReason.NO_PERSON if _is_nobody(value) else BadLineReason.NOT_ITS_TYPE
                )

    def _note_long_line(self, cut: Lines) -> None:
        self._records += cut.is_behind_long_line
        super()._note_long_line(cut)


def _values(raw: _Chars, starts: NDArray[np.intp], kind: DataType) -> tuple[_Chars, _Good]:
    """
    Read the values of a type at some places, and tell which are valid.

    A hash has 32 bytes, a device id 36 characters in lower case.
    """
    # Copied row by row: an index for each character takes five times as long.
    chars = sliding_window_view(raw, _CHARS[kind])[starts]
    if kind is DataType.AAID:
        is_good = (chars[:, _DASHES] == ord("-")).all(axis=1)
        digits = _DIGIT[chars[:, _DIGITS_OF_UUID]]
        is_good &= (digits != _NO_DIGIT).all(axis=1) & digits.any(axis=1)
        # A to F alone: digits and dashes must not change.
        return np.where((chars >= ord("A")) & (chars <= ord("F")), chars + 32, chars), is_good
    try:
        digests = np.frombuffer(unhexlify(chars.data), np.uint8)
    except NotHex:  # some value is no hex; the error does not tell which
        digits = _DIGIT[chars]
    else:
        values = digests.reshape(len(chars), -1)
        return values, ~are_nobody(values)
    is_good = (digits != _NO_DIGIT).all(axis=1)
    values = (digits[:, 0::2] << np.uint8(4)) | digits[:, 1::2]
    return values, is_good & ~are_nobody(values)


def _is_nobody(value: bytes) -> bool:
    if len(value) < 2 * ID_BYTES:
        return False
    try:
        return unhexlify(value)[:ID_BYTES] in NO_PERSON
    except NotHex:
        return False


def _ids(kind: DataType, values: _Chars) -> Ids:
    """Return the ids that `segments.model.identity` makes of the values; tests compare the two."""
    if kind is DataType.EMAIL:
        return np.ascontiguousarray(values[:, :ID_BYTES])
    if kind is DataType.PHONE:
        width, text = _HASH_CHARS, values.tobytes().hex().encode()
        prefix = blake2b(b"phone:", digest_size=ID_BYTES)
    else:
        width, text = _UUID_CHARS, values.tobytes()
        prefix = blake2b(b"ifa:", digest_size=ID_BYTES)
    digests = []
    for at in range(0, len(text), width):
        state = prefix.copy()
        state.update(text[at : at + width])
        digests.append(state.digest())
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, ID_BYTES)


def _cells(line: bytes, delimiter: str) -> list[str]:
    try:
        if b'"' not in line and b"\r" not in line:
            return line.decode().split(delimiter) if line else []
        # Strict, or an unclosed quote would swallow the cells after it.
        reader = csv.reader(
            [line.decode()], delimiter=delimiter, strict=True, skipinitialspace=True
        )
        return next(reader, [])
    except (UnicodeDecodeError, csv.Error):
        return []


def _layouts(columns: Columns) -> dict[int, list[_Layout]]:
    length_to_layouts: dict[int, list[_Layout]] = {}
    if None in columns or len(columns) > _MAX_TYPED_FOR_MATRIX:
        return length_to_layouts
    for is_there in product((True, False), repeat=len(columns)):
        if not any(is_there):
            continue
        at, commas, cells = 0, [], []
        for kind, there in zip(columns, is_there, strict=True):
            assert kind is not None, "asked above"
            if there:
                cells.append((kind, at, at + _CHARS[kind]))
                at += _CHARS[kind]
            commas.append(at)
            at += 1
        length = commas.pop()  # the last column has none
        length_to_layouts.setdefault(length, []).append(_Layout(commas, cells))
    return length_to_layouts
