"""
Parses plain text to ids: one hash a line, in any shape that partners export.

"A single column of entirely MD5, SHA1 or SHA2 hashed email addresses"
(LiveAudience, "Email hash data file"). The first valid line determines which of the three. A hash
of another length is then a bad line, as is any other text, and a hash that is no person's
(`segments.model.identity`). Bad lines are counted by reason, and the first of each named by number.
Their content, most often a plain e-mail address, is never kept.

The beginning of a file determines its format (`beginning`): a header, a table with a column of
hashes, or base64. A repeated header is another shard's.

Two ways through, with the same result:

- Regular: every line of the block is exactly hash + line end. The block is then a matrix of
  bytes; its line ends are checked by column, and one call turns the rest into binary, and refuses
  other characters than hex.
- Anything else, line by line: blank lines, headers, quotes, padding, marks around a hash,
  tables, base64, and any block with a bad line.

Memory is a block and an incomplete line of at most `MAX_LINE_BYTES`.

Measured on one core, SHA-256, blocks of 256 KiB (which stay in its cache; 4 MiB are half as
fast): regular 17 M rows/s, line by line 1 M rows/s.
"""

from binascii import Error as NotHex
from binascii import unhexlify
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from segments.ingest.beginning import LINES_LOOKED_AT, beginning_of, lines_as_text
from segments.ingest.csv_rows import CsvRows
from segments.ingest.hash_value import (
    BYTES_TO_TYPE,
    PADDING,
    bare,
    base64_digest,
    hex_digest,
    shape_of,
)
from segments.ingest.lines import MAX_LINE_BYTES, Lines, LineSplitter
from segments.ingest.text import BYTE_ORDER_MARK
from segments.model.identity import EMAIL_HASH_CHARS, ID_BYTES, NO_PERSON
from segments.model.job import BadLine, BadLineReason

Ids = NDArray[np.uint8]
"""A matrix of ids: one row of `ID_BYTES` bytes each."""

MAX_SAMPLES = 20
"""Of each reason."""

MAX_SHAPED = 1_000_000
"""How many values that are no digests are told apart by shape, at up to 4 µs each; the others count
as `NOT_A_HASH`, true of them all."""

LINE_ENDS = (b"\n", b"\r\n")
_NO_PERSON = np.frombuffer(b"".join(sorted(NO_PERSON)), np.uint8).reshape(-1, ID_BYTES)
_NO_IDS: Ids = np.empty((0, ID_BYTES), np.uint8)


class FileParser(Protocol):
    """Reads one file of any kind: feed it the blocks in order, then finish. Counts are so far."""

    @property
    def hash_type(self) -> str | None:
        """`md5`, `sha1` or `sha2`, once known; `None` for a file without a single type."""

    @property
    def rows(self) -> int:
        """The records, as the kind of file counts them."""

    @property
    def header_rows(self) -> int:
        """The headers, which some senders count as records; several in joined shards."""

    @property
    def header_line(self) -> int:
        """The header's line number, from 1; 0 without a header."""

    @property
    def header(self) -> str:
        """The header's text, if it is a known name."""

    @property
    def valid(self) -> int:
        """The number of ids."""

    @property
    def well_formed(self) -> int:
        """The well-formed values, including those that become no id."""

    @property
    def bad(self) -> int:
        """The bad rows or values."""

    @property
    def samples(self) -> list[BadLine]:
        """Some bad lines of each reason."""

    @property
    def bad_by_reason(self) -> Mapping[BadLineReason, int]:
        """The bad rows or values by reason, if this kind of file knows reasons."""

    def feed(self, block: bytes) -> Ids:
        """Take the next bytes; return complete ids."""

    def finish(self) -> Ids:
        """Take the end of the file; return the rest."""


class Parser:
    """
    Parses the blocks of one file, in order, to ids.

    `hash_type` is the delivery's; `None`: the first valid line decides.
    """

    def __init__(self, hash_type: str | None = None, max_shaped: int = MAX_SHAPED) -> None:
        self.hash_type = hash_type
        self.lines = 0
        self.valid = 0
        self.header_rows = 0
        self.header_line = 0
        self.header = ""
        self._header_value: bytes | None = None
        self.samples: list[BadLine] = []
        self.bad_by_reason: Counter[BadLineReason] = Counter()
        self._splitter = LineSplitter()
        self._beginning: list[bytes] | None = []
        """The lines until they determine the format; then `None`."""
        self._shapes_left = max_shaped
        self._wanted_lines = LINES_LOOKED_AT
        self._wanted_bytes = LINES_LOOKED_AT * MAX_LINE_BYTES
        self._digest_of: Callable[[bytes], bytes | None] = hex_digest
        self._column = 0
        self._table: CsvRows | None = None

    @property
    def rows(self) -> int:
        """The records so far: lines that are neither blank nor a header."""
        return self.valid + self.bad

    @property
    def bad(self) -> int:
        """The bad rows or values so far."""
        return self.bad_by_reason.total()

    @property
    def nobody(self) -> int:
        """The bad lines with hashes that are no person's."""
        return self.bad_by_reason[BadLineReason.NO_PERSON]

    @property
    def well_formed(self) -> int:
        """Hashes of the file's type."""
        return self.valid

    def feed(self, block: bytes) -> Ids:
        """
        Take the next bytes; return the ids of complete lines.

        Raises:
            Stopped: UNREADABLE_FILE: two columns of a table could be the hashes, or a quote is not
                closed.
        """
        return self._ids_of_lines(self._splitter.feed(block))

    def finish(self) -> Ids:
        """
        Take the end of the file; its last line may lack a line end.

        Raises:
            Stopped: As `feed`.
        """
        lines = self._splitter.finish()
        text = lines.lines + b"\n" if lines.lines else b""
        ids = self._ids_of_lines(Lines(lines.is_behind_long_line, text), is_last=True)
        if self._table is not None:
            self._table.finish()
        return ids

    def _ids_of_lines(self, lines: Lines, *, is_last: bool = False) -> Ids:
        if self._beginning is None:
            self._note_long_line(lines)
            return self._ids_of(lines.lines)
        if lines.is_behind_long_line:
            return self._begun(self._beginning, lines)
        self._beginning.append(lines.lines)
        if not is_last and not self._is_told_by(lines.lines):
            return _NO_IDS
        return self._begun(self._beginning, Lines(is_behind_long_line=False, lines=b""))

    def _is_told_by(self, text: bytes) -> bool:
        is_first = self._wanted_lines == LINES_LOOKED_AT
        if is_first and hex_digest(text.partition(b"\n")[0].strip(PADDING)) is not None:
            return True
        self._wanted_lines -= sum(1 for line in text.split(b"\n") if line.strip(PADDING))
        self._wanted_bytes -= len(text)
        return self._wanted_lines <= 0 or self._wanted_bytes <= 0

    def _begun(self, beginning: list[bytes], lines: Lines) -> Ids:
        self._beginning = None
        text = b"".join(beginning)
        first_ids = self._ids_of(self._told_by(text))
        self._note_long_line(lines)
        more_ids = self._ids_of(lines.lines)
        return np.concatenate((first_ids, more_ids)) if len(more_ids) else first_ids

    def _told_by(self, text: bytes) -> bytes:
        told = beginning_of(text)
        if told.header is not None:
            self.lines = told.header.last_line
            self.header_rows = 1
            self.header_line = told.header.first_line
            self.header = told.header.text
            self._header_value = told.header.value
        if told.is_base64:
            self._digest_of = base64_digest
        if told.delimiter is not None:
            self._column = told.column
            self._table = CsvRows(told.delimiter, first_line=self.lines + 1)
        return told.lines

    def _ids_of(self, text: bytes) -> Ids:
        if not text:
            return _NO_IDS
        if self._table is not None:
            return self._row_by_row(self._table, text)
        if self.hash_type is not None and self._digest_of is hex_digest:
            for line_end in LINE_ENDS:
                ids = regular_ids(text, EMAIL_HASH_CHARS[self.hash_type], line_end)
                if ids is not None:
                    return self._of_persons(ids)
        return self._line_by_line(text)

    def _of_persons(self, ids: Ids) -> Ids:
        """Count lines of one id each; return the ids of persons."""
        is_nobody = are_nobody(ids)
        first_line = self.lines
        for at in np.flatnonzero(is_nobody).tolist():
            self.lines = first_line + at + 1
            self._bad(BadLineReason.NO_PERSON)
        self.lines = first_line + len(ids)
        if is_nobody.any():
            ids = ids[~is_nobody]
        self.valid += len(ids)
        return ids

    def _line_by_line(self, text: bytes) -> Ids:
        ids: list[bytes] = []
        lines = text.split(b"\n")
        lines.pop()  # the text ends with a line end
        for line in lines:
            self.lines += 1
            value = bare(line)
            if value:
                self._read(value, ids)
        return _matrix(ids)

    def _row_by_row(self, table: CsvRows, text: bytes) -> Ids:
        ids: list[bytes] = []
        lines = text.split(b"\n")
        lines.pop()
        for row in table.feed(lines_as_text(lines)):
            self.lines = row.line
            if row.is_blank:
                continue
            if row.cells is None or len(row.cells) <= self._column:
                self._bad(BadLineReason.OTHER_COLUMNS)
            elif any(cell.strip() for cell in row.cells):
                self._read(bare(row.cells[self._column].encode()), ids)
        return _matrix(ids)

    def _read(self, value: bytes, ids: list[bytes]) -> None:
        digest = self._digest_of(value)
        if digest is None and value.removeprefix(BYTE_ORDER_MARK) == self._header_value:
            self.header_rows += 1  # of another shard
        elif digest is None:
            self._not_a_digest(value)
        elif digest[:ID_BYTES] in NO_PERSON:  # so it does not decide the type
            self._bad(BadLineReason.NO_PERSON)
        elif not self._is_of_our_type(digest):
            self._bad(BadLineReason.OTHER_HASH)
        else:
            self.valid += 1
            ids.append(digest[:ID_BYTES])

    def _not_a_digest(self, value: bytes) -> None:
        if not self._shapes_left:
            self._bad(BadLineReason.NOT_A_HASH)
            return
        self._shapes_left -= 1
        if len(value) > MAX_LINE_BYTES:
            self._bad(BadLineReason.TOO_LONG)
        else:
            self._bad(self._fault_of(value))

    def _fault_of(self, value: bytes) -> BadLineReason:
        is_hex_among_base64 = hex_digest(value) is not None
        return BadLineReason.OTHER_HASH if is_hex_among_base64 else shape_of(value)

    def _is_of_our_type(self, digest: bytes) -> bool:
        hash_type = BYTES_TO_TYPE[len(digest)]
        if self.hash_type is None:
            self.hash_type = hash_type
        return hash_type == self.hash_type

    def _bad(self, reason: BadLineReason) -> None:
        self.bad_by_reason[reason] += 1
        if self.bad_by_reason[reason] <= MAX_SAMPLES:
            self.samples.append(BadLine(self.lines, reason))

    def _note_long_line(self, cut: Lines) -> None:
        if cut.is_behind_long_line:
            self.lines += 1
            if self._table is not None:
                self._table.skip_line()
            self._bad(BadLineReason.TOO_LONG)


def _matrix(ids: list[bytes]) -> Ids:
    return np.frombuffer(b"".join(ids), np.uint8).reshape(-1, ID_BYTES)


def regular_ids(text: bytes, chars: int, line_end: bytes) -> Ids | None:
    """Return the ids of equally formed lines, or `None`."""
    stride = chars + len(line_end)
    if len(text) % stride:
        return None
    matrix = np.frombuffer(text, np.uint8).reshape(-1, stride)
    if not (matrix[:, chars:] == np.frombuffer(line_end, np.uint8)).all():
        return None
    try:
        digests = unhexlify(np.ascontiguousarray(matrix[:, :chars]).data)
    except NotHex:
        return None
    return np.frombuffer(digests, np.uint8).reshape(-1, chars // 2)[:, :ID_BYTES]


def are_nobody(digests: Ids) -> NDArray[np.bool_]:
    """Tell which digests, or their first 16 bytes, are no person's."""
    is_nobody = np.zeros(len(digests), np.bool_)
    for nobody in _NO_PERSON:
        # Compares a single byte first, which leaves one hash in 256.
        may_be = np.flatnonzero(digests[:, 0] == nobody[0])
        is_nobody[may_be[(digests[may_be, :ID_BYTES] == nobody).all(axis=1)]] = True
    return is_nobody
