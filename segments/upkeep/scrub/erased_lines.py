"""
Removes the lines of erased ids from a delivered file: bytes in, fewer bytes out.

A line is removed if it contains, anywhere and in any case, the hex digits of an erased hash: in
quotes, padded, beside other columns, of another hash type, accepted as a record or not. A run of
hex digits of another length is searched from each digit on.

A line longer than any record is removed unread. Other lines stay, byte for byte and in order. As in
`segments.ingest.parse`, a block of uniform lines is a matrix. Of files kept as ids of 16 bytes,
rows are removed.
"""

import re
from binascii import unhexlify
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from segments.ingest.external_audience.delta import HEADER
from segments.ingest.hash_value import base64_digest
from segments.ingest.lines import MAX_LINE_BYTES, Lines, LineSplitter
from segments.ingest.parse import LINE_ENDS, Ids, regular_ids
from segments.model.identity import EMAIL_HASH_CHARS, ID_BYTES, Id
from segments.store.keys import FIELD_END, FIELD_START

_TABLE_BITS = 24
_ID_CHARS = 2 * ID_BYTES
_HASH_CHARS = frozenset(EMAIL_HASH_CHARS.values())
_BASE64_WORD = re.compile(rb"[A-Za-z0-9+/_-]{22,44}={0,2}")
_HEX_RUN = re.compile(rb"[0-9A-Fa-f]{%d,}" % _ID_CHARS)


class ErasedIds:
    """
    A set of ids, tested with many at once.

    A table by the first 24 bits, 16 MiB, rules most out: with a million ids four times as fast as
    the search alone. `placed` are ids known by their place (`keys.id_in_bucket`), by bucket bits.
    """

    def __init__(
        self, ids: Sequence[Id], placed: Mapping[int, Sequence[Id]] = MappingProxyType({})
    ) -> None:
        self._ids = ids
        self._placed = placed
        self._may_be = np.zeros(1 << _TABLE_BITS, np.bool_)
        self._names = self._known(ids)
        self._bits_to_names = {bits: self._known(some, bits) for bits, some in placed.items()}

    def _known(self, ids: Sequence[Id], bits: int = _TABLE_BITS) -> NDArray[np.bytes_]:
        matrix = np.frombuffer(b"".join(ids), np.uint8).reshape(-1, ID_BYTES)
        # With fewer buckets than entries, mark all of a bucket.
        known_bits = min(bits, _TABLE_BITS)
        first = _first_bits(matrix) >> np.uint32(_TABLE_BITS - known_bits)
        self._may_be.reshape(1 << known_bits, -1)[first] = True
        return np.unique(_names(matrix))

    def __len__(self) -> int:
        return len(self._names) + sum(len(names) for names in self._bits_to_names.values())

    def as_marked(self) -> "ErasedIds":
        """
        Return the ids as in `segments.ingest.external_audience.delta`, with a mark as last byte.
        """
        # A place does not include the last byte.
        return ErasedIds([Id(id_[:-1] + b"\0") for id_ in self._ids], self._placed)

    def among(self, ids: Ids) -> NDArray[np.bool_]:
        """Tell which of some ids are in this non-empty set."""
        found = self._may_be[_first_bits(ids)]
        if found.any():
            may_be = ids[found]
            are = _are_in(self._names, may_be)
            for bits, names in self._bits_to_names.items():
                are |= _are_in(names, _places(may_be, bits))
            found[found] = are
        return found


class LinesThatStay:
    """Takes a file's plain blocks, in order; returns the text that stays."""

    def __init__(self, erased: ErasedIds) -> None:
        self.dropped = 0
        self._erased = erased
        self._cutter = LineSplitter()

    def feed(self, block: bytes) -> bytes:
        """Take the next bytes; return the lines that they complete and that stay."""
        return self._kept_of(self._cutter.feed(block))

    def finish(self) -> bytes:
        """Take the end of the file, where the last line may lack its line end."""
        return self._kept_of(self._cutter.finish())

    def _kept_of(self, cut: Lines) -> bytes:
        self.dropped += cut.is_behind_long_line
        return self._kept(cut.lines)

    def _kept(self, text: bytes) -> bytes:
        for chars in _HASH_CHARS:
            for line_end in LINE_ENDS:
                ids = regular_ids(text, chars, line_end)
                if ids is not None and len(ids):
                    goes = self._erased.among(ids)
                    return self._without(text, goes, chars + len(line_end))
        return self._kept_of_lines(text)

    def _without(self, text: bytes, goes: NDArray[np.bool_], stride: int) -> bytes:
        if not goes.any():
            return text
        self.dropped += int(goes.sum())
        return np.frombuffer(text, np.uint8).reshape(-1, stride)[~goes].tobytes()

    def _kept_of_lines(self, text: bytes) -> bytes:
        lines = text.split(b"\n")
        goes = {n for n, line in enumerate(lines) if len(line) > MAX_LINE_BYTES}
        numbers: list[int] = []
        digits: list[bytes] = []
        for number, line in enumerate(lines):
            for piece in _pieces(line):
                numbers.append(number)
                digits.append(piece)
        if digits:
            ids = np.frombuffer(unhexlify(b"".join(digits)), np.uint8).reshape(-1, ID_BYTES)
            goes.update(np.array(numbers)[self._erased.among(ids)].tolist())
        if not goes:
            return text
        self.dropped += len(goes)
        # The last piece has no line end.
        *whole, last = [
            b"" if number in goes else line + b"\n" for number, line in enumerate(lines)
        ]
        return b"".join(whole) + last[:-1]


class Rows:
    """
    Takes the blocks of a file of ids, in order; returns the rest.

    Marked ids follow a header.
    """

    def __init__(self, erased: ErasedIds, *, is_marked: bool) -> None:
        self.dropped = 0
        self._erased = erased.as_marked() if is_marked else erased
        self._is_marked = is_marked
        self._header_bytes = len(HEADER) if is_marked else 0
        self._rest = b""

    def feed(self, block: bytes) -> bytes:
        """Take the next bytes; return the rows that they complete and that stay."""
        block = self._rest + block
        header, block = block[: self._header_bytes], block[self._header_bytes :]
        self._header_bytes -= len(header)
        whole = len(block) - len(block) % ID_BYTES
        self._rest = block[whole:]
        rows = np.frombuffer(block[:whole], np.uint8).reshape(-1, ID_BYTES)
        ids = rows
        if self._is_marked:
            ids = rows.copy()
            ids[:, -1] = 0
        goes = self._erased.among(ids)
        self.dropped += int(goes.sum())
        return header + rows[~goes].tobytes()

    def finish(self) -> bytes:
        """Take the end of the file; a truncated row stays, for the reader to report."""
        return self._rest


def kept_blocks(blocks: Iterable[bytes], sieve: LinesThatStay | Rows) -> Iterator[bytes]:
    """Yield the blocks of a file that stay."""
    for block in blocks:
        yield sieve.feed(block)
    yield sieve.finish()


def _pieces(line: bytes) -> Iterator[bytes]:
    """Yield the hex digits of each possible id in a line, from hex or base64."""
    for word in _BASE64_WORD.findall(line):
        digest = base64_digest(word)
        if digest is not None:
            yield digest[:ID_BYTES].hex().encode()
    for run in _HEX_RUN.findall(line):
        ends = 1 if len(run) in _HASH_CHARS else len(run) - _ID_CHARS + 1
        for start in range(ends):
            yield run[start : start + _ID_CHARS]


def _names(ids: Ids) -> NDArray[np.bytes_]:
    # Of equal length, so numpy may disregard trailing zeros.
    return np.ascontiguousarray(ids).view(f"S{ID_BYTES}").ravel()


def _are_in(sorted_names: NDArray[np.bytes_], ids: Ids) -> NDArray[np.bool_]:
    if not len(sorted_names):
        return np.zeros(len(ids), np.bool_)
    names = _names(ids)
    at = np.searchsorted(sorted_names, names)
    at[at == len(sorted_names)] = 0
    are: NDArray[np.bool_] = sorted_names[at] == names
    return are


def _places(ids: Ids, bucket_bits: int) -> Ids:
    """Return ids as of a store with these bucket bits: see `keys.id_in_bucket`."""
    places = ids.copy()
    places[:, FIELD_END:] = 0
    first = places[:, :FIELD_START].copy().view(">u4")
    first &= np.uint32((0xFFFFFFFF << (32 - bucket_bits)) & 0xFFFFFFFF)
    places[:, :FIELD_START] = first.view(np.uint8)
    return places


def _first_bits(ids: Ids) -> NDArray[np.uint32]:
    first = ids[:, :4].copy().view(">u4").ravel()
    return first.astype(np.uint32) >> np.uint32(32 - _TABLE_BITS)
