"""
Streams lines into rows of CSV (RFC 4180) without losing any.

A quoted field may span lines (section 2, 6). An unclosed quote would turn the rest of the file into
one field. So the end of the file within quotes, or an overlong field, stops the file; the message
names the opening quote's line.
"""

import csv
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple, NoReturn

from segments.model.stop_reason import Stopped, StopReason

MAX_FIELD_CHARS = 64 << 10
MAX_ROW_CHARS = 1 << 20

# Python's default limit is process-wide, and twice as large.
csv.field_size_limit(MAX_FIELD_CHARS)


class Row(NamedTuple):
    """A row, readable or not."""

    line: int  # its first line, from 1
    cells: list[str] | None  # `None`: not CSV

    @property
    def is_blank(self) -> bool:
        """Whether the line has only blanks."""
        return self.cells is not None and is_blank(self.cells)


def is_blank(cells: Sequence[str]) -> bool:
    """Tell whether the line of these cells has only blanks."""
    return not cells or (len(cells) == 1 and not cells[0].strip())


class CsvRows:
    """Turns the lines of one file, in order, into rows."""

    def __init__(self, delimiter: str = ",", first_line: int = 1) -> None:
        self._delimiter = delimiter
        self._next_line = first_line
        self._begun: list[str] = []  # the lines of a row with an open quote

    def feed(self, lines: Sequence[str]) -> Iterator[Row]:
        """
        Take the next lines, each with its line end; return the rows that they complete.

        Raises:
            Stopped: UNREADABLE_FILE: a quoted field is too long.
        """
        first = self._next_line
        rows = self._of_a_line_each(lines)
        return self._joined(lines) if rows is None else map(Row, count(first), rows)

    def cells(self, lines: Sequence[str]) -> Sequence[list[str] | None]:
        """
        Take the next lines as `feed`; return the rows' cells alone, in less time.

        Raises:
            As `feed`.
        """
        rows = self._of_a_line_each(lines)
        return [row.cells for row in self._joined(lines)] if rows is None else rows

    def _joined(self, lines: Sequence[str]) -> Iterator[Row]:
        # Parses an open row again for all these lines, not for each.
        row = _Lines([*self._begun, *lines])
        reader = csv.reader(row, delimiter=self._delimiter)
        first, self._begun = self._next_line - len(self._begun), []
        self._next_line += len(lines)
        while row.begin():
            try:
                cells = next(reader)
            except csv.Error:
                if row.lines_taken > 1 and row.chars_taken > MAX_FIELD_CHARS:
                    self._refuse(
                        first, row.taken, f"goes on for more than {MAX_FIELD_CHARS} characters"
                    )
                yield Row(first, None)
            except _MoreWanted:
                self._begun = row.taken
                if row.chars_taken > MAX_ROW_CHARS:
                    self._refuse(
                        first,
                        row.taken,
                        f"belongs to a row of more than {MAX_ROW_CHARS} characters",
                    )
            else:
                yield Row(first, cells)
            first += row.lines_taken

    def _of_a_line_each(self, lines: Sequence[str]) -> Sequence[list[str]] | None:
        """
        Take lines of which each is a row, which is fastest at once; `None`: they are not, or bad.
        """
        if self._begun:
            return None
        try:
            # With a last row of its own if no quote is open before it.
            rows = list(csv.reader([*lines, "\n"], delimiter=self._delimiter))
        except csv.Error:
            return None
        if len(rows) != len(lines) + 1:
            return None
        self._next_line += len(lines)
        return rows[:-1]

    def skip_line(self) -> None:
        """Count a line that is too long to feed."""
        self._next_line += 1

    def finish(self) -> None:
        """
        Take the end of the file.

        Raises:
            Stopped: UNREADABLE_FILE: the file ends within quotes.
        """
        if self._begun:
            self._refuse(self._next_line - len(self._begun), self._begun, "is never closed")

    def _refuse(self, first: int, lines: Sequence[str], what: str) -> NoReturn:
        line = first + "".join(lines)[: _opening_quote(lines)].count("\n")
        raise Stopped(StopReason.UNREADABLE_FILE, f"the quote that opens in line {line} {what}")


def _opening_quote(lines: Sequence[str]) -> int:
    """Return the index, in the joined lines, of the quote still open at their end."""
    text = "".join(lines)
    at = opening = text.find('"')
    while at >= 0:
        opening = at
        at = text.find('"', at + 1)
        while at >= 0 and text.startswith('""', at):  # an escaped quote
            at = text.find('"', at + 2)
        if at >= 0:
            at = text.find('"', at + 1)
    return opening


class _MoreWanted(Exception):
    """The parser wants another line: a quote is open."""


class _Lines:
    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._begin = self._next = 0
        self.chars_taken = 0

    @property
    def lines_taken(self) -> int:
        return self._next - self._begin

    @property
    def taken(self) -> list[str]:
        return self._lines[self._begin : self._next]

    def begin(self) -> bool:
        self._begin, self.chars_taken = self._next, 0
        return self._next < len(self._lines)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self._next == len(self._lines) or self.chars_taken > MAX_ROW_CHARS:
            raise _MoreWanted
        line = self._lines[self._next]
        self._next += 1
        self.chars_taken += len(line)
        return line
