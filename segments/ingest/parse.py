"""
Plain text to ids: one hash a line, in whatever shape partners export it.

"A single column of entirely MD5, SHA1 or SHA2 hashed email addresses"
(LiveAudience, "Email hash data file"). The first valid line decides which of
the three the file is; a hash of another length is then a bad line, as is
everything else that is no hash. A bad line is counted and sampled by its
number and the reason. Its content is never kept: what a partner sends by
mistake is most often a plain e-mail address. A hash that is no person's
(`segments.model.identity`) is a bad line, too.

The beginning of a file tells what it is (`beginning`): whether its first line is a
header, whether it is a table and which of its columns has the hashes, and whether
it is base64, which it is if its first `LINES_LOOKED_AT` lines all are. A header that
stands there once more further down is that of another shard, and no record.

Two ways through, with the same result:

- Regular: every line of the block is exactly hash + line end. Then the block is
  a matrix of bytes, whose line ends are checked by column and whose rest is
  turned into binary in one call. That call refuses anything that is not a hex
  digit, so a line that only happens to have the right length is noticed.
- Anything else, line by line: blank lines, a header row, quotes, padding, marks
  around a hash, tables, base64, and the block that contains one bad line.

Memory is one block and one incomplete line of at most `MAX_LINE_BYTES`, even
where a "line" goes on for a gigabyte.

Measured on one core, SHA-256, blocks of 256 KiB (which stay in its cache; of
4 MiB it is half as fast): regular 17 M rows/s, line by line 1 M rows/s.
"""

from binascii import Error as NotHex
from binascii import unhexlify
from collections.abc import Callable
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
"""Ids as a matrix: one row of `ID_BYTES` bytes each."""

MAX_SAMPLES = 20

LINE_ENDS = (b"\n", b"\r\n")
_NO_PERSON = np.frombuffer(b"".join(sorted(NO_PERSON)), np.uint8).reshape(-1, ID_BYTES)
_NO_IDS: Ids = np.empty((0, ID_BYTES), np.uint8)


class FileParser(Protocol):
    """
    Reads one file, of whichever kind: feed it the blocks in order, then finish.

    What it has counted is of all that it was fed.
    """

    @property
    def hash_type(self) -> str | None:
        """`md5`, `sha1` or `sha2`, once it is known; `None` of a file that is not of one."""

    @property
    def rows(self) -> int:
        """Records: as of the kind of file."""

    @property
    def header_rows(self) -> int:
        """Headers, which some senders count: one, or one of each shard where shards were joined."""

    @property
    def header_line(self) -> int:
        """The number of its line, from 1; 0 of a file without one."""

    @property
    def header(self) -> str:
        """Its text, where that is a name that we know."""

    @property
    def valid(self) -> int:
        """Ids."""

    @property
    def well_formed(self) -> int:
        """Values that are what they should be, whether or not they become ids."""

    @property
    def bad(self) -> int:
        """Rows, or values, that are none."""

    @property
    def samples(self) -> list[BadLine]:
        """Some of them."""

    def feed(self, block: bytes) -> Ids:
        """Take the next bytes; return the ids that they complete."""

    def finish(self) -> Ids:
        """Take the end of the file; return the rest."""


class Parser:
    """
    Feed it the blocks of one file, in order; it returns ids as they complete.

    Args:
        hash_type: `md5`, `sha1` or `sha2` where the delivery says so; `None`
            leaves it to the first valid line.
    """

    def __init__(self, hash_type: str | None = None) -> None:
        self.hash_type = hash_type
        self.lines = 0
        self.valid = 0
        self.bad = 0
        self.nobody = 0
        """Of the bad ones: hashes that are no person's."""
        self.header_rows = 0
        self.header_line = 0
        self.header = ""
        self._header_value: bytes | None = None
        self.samples: list[BadLine] = []
        self._splitter = LineSplitter()
        self._beginning: list[bytes] | None = []
        """Lines that wait until there are enough to tell what the file is; then `None`."""
        self._wanted_lines = LINES_LOOKED_AT
        self._wanted_bytes = LINES_LOOKED_AT * MAX_LINE_BYTES
        self._digest_of: Callable[[bytes], bytes | None] = hex_digest
        self._column = 0
        self._table: CsvRows | None = None

    @property
    def rows(self) -> int:
        """Records seen: lines that are neither blank nor the header."""
        return self.valid + self.bad

    @property
    def well_formed(self) -> int:
        """Hashes of the file's type."""
        return self.valid

    def feed(self, block: bytes) -> Ids:
        """
        Take the next bytes of the file; return the ids of the lines that they complete.

        Raises:
            Stopped: UNREADABLE_FILE: a table in which several columns could be
                the hashes, or in which a quote is not closed.
        """
        return self._ids_of_lines(self._splitter.feed(block))

    def finish(self) -> Ids:
        """
        Take the end of the file, where the last line may lack its line end.

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
        """Tell whether these lines, after those before them, suffice to say what the file is."""
        is_first = self._wanted_lines == LINES_LOOKED_AT
        if is_first and hex_digest(text.partition(b"\n")[0].strip(PADDING)) is not None:
            return True
        self._wanted_lines -= sum(1 for line in text.split(b"\n") if line.strip(PADDING))
        self._wanted_bytes -= len(text)
        return self._wanted_lines <= 0 or self._wanted_bytes <= 0

    def _begun(self, beginning: list[bytes], lines: Lines) -> Ids:
        """Decide what the file is, by its beginning; return the ids of that and of what follows."""
        self._beginning = None
        text = b"".join(beginning)
        first_ids = self._ids_of(self._told_by(text))
        self._note_long_line(lines)
        more_ids = self._ids_of(lines.lines)
        return np.concatenate((first_ids, more_ids)) if len(more_ids) else first_ids

    def _told_by(self, text: bytes) -> bytes:
        """Set how lines are read; return the lines behind the header."""
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
        """Return the ids of whole lines, each with its line end."""
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
        """Count lines of one id each; return the ids that are a person's."""
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
        lines.pop()  # behind the last line end there is nothing
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
            if row.cells is None or (row.cells and len(row.cells) <= self._column):
                self._bad(BadLineReason.OTHER_COLUMNS)
            elif any(cell.strip() for cell in row.cells):
                self._read(bare(row.cells[self._column].encode()), ids)
        return _matrix(ids)

    def _read(self, value: bytes, ids: list[bytes]) -> None:
        digest = self._digest_of(value)
        if digest is None and value.removeprefix(BYTE_ORDER_MARK) == self._header_value:
            self.header_rows += 1  # of another shard
        elif digest is None:
            is_long = len(value) > MAX_LINE_BYTES
            self._bad(BadLineReason.TOO_LONG if is_long else self._fault_of(value))
        elif digest[:ID_BYTES] in NO_PERSON:  # and so it does not decide the type
            self._bad(BadLineReason.NO_PERSON)
        elif not self._is_of_our_type(digest):
            self._bad(BadLineReason.OTHER_HASH)
        else:
            self.valid += 1
            ids.append(digest[:ID_BYTES])

    def _fault_of(self, value: bytes) -> BadLineReason:
        is_hex_among_base64 = hex_digest(value) is not None
        return BadLineReason.OTHER_HASH if is_hex_among_base64 else shape_of(value)

    def _is_of_our_type(self, digest: bytes) -> bool:
        hash_type = BYTES_TO_TYPE[len(digest)]
        if self.hash_type is None:
            self.hash_type = hash_type
        return hash_type == self.hash_type

    def _bad(self, reason: BadLineReason) -> None:
        self.bad += 1
        self.nobody += reason is BadLineReason.NO_PERSON
        if len(self.samples) < MAX_SAMPLES:
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
    """Return the ids of lines that are all alike, or `None` if they are not."""
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
    """Tell which of some digests, or their first 16 bytes, are no person's."""
    is_nobody = np.zeros(len(digests), np.bool_)
    for nobody in _NO_PERSON:
        # By one byte first: of hashes, one in 256 is left to look at.
        may_be = np.flatnonzero(digests[:, 0] == nobody[0])
        is_nobody[may_be[(digests[may_be, :ID_BYTES] == nobody).all(axis=1)]] = True
    return is_nobody
