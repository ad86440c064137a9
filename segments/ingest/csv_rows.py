"""
Lines to the rows of a CSV file (RFC 4180), as they come and without losing one.

A field in quotes may go on over several lines (section 2, 6), so a line is not
always a row. A quote that is never closed takes all that follows into one field,
and a reader that tolerates it reports a file of a few rows and no fault. Here the
end of the file within quotes, and a field larger than any has reason to be, stop
the file, and the message names the line in which the quote was opened.
"""

import csv
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

from segments.model.stop_reason import Stopped, StopReason

MAX_FIELD_CHARS = 64 << 10
MAX_ROW_CHARS = 1 << 20

# Python's own limit is one for the whole process, and twice as large.
csv.field_size_limit(MAX_FIELD_CHARS)


class Row(NamedTuple):
    """One row, or one that can't be read."""

    line: int  # the first of it, from 1
    cells: list[str] | None  # none: no CSV


class CsvRows:
    """Feed it the lines of one file, in order; it yields the rows that they complete."""

    def __init__(self, delimiter: str = ",", first_line: int = 1) -> None:
        """
        Args:
            delimiter: Between two fields.
            first_line: The number of the first line that will be fed.
        """
        self._delimiter = delimiter
        self._next_line = first_line
        self._begun: list[str] = []  # the lines of a row that a quote keeps open
        self._begun_chars = 0

    def feed(self, lines: Sequence[str]) -> Iterator[Row]:
        """
        Take the next lines, each with its line end; yield the rows that they complete.

        Raises:
            Stopped: UNREADABLE_FILE: a quote that goes on for too long.
        """
        if self._begun or any('"' in line for line in lines):
            for line in lines:
                row = self._line(line)
                if row is not None:
                    yield row
            return
        first, self._next_line = self._next_line, self._next_line + len(lines)
        reader = csv.reader(lines, delimiter=self._delimiter)
        while reader.line_num < len(lines):
            yield Row(first + reader.line_num, _next(reader))

    def skip_line(self) -> None:
        """Count a line that is not fed, since it is too long for any."""
        self._next_line += 1

    def finish(self) -> None:
        """
        Take the end of the file.

        Raises:
            Stopped: UNREADABLE_FILE: it ends within quotes.
        """
        if self._begun:
            self._refuse("is never closed")

    def _line(self, line: str) -> Row | None:
        self._begun.append(line)
        self._begun_chars += len(line)
        self._next_line += 1
        is_large = self._begun_chars > MAX_FIELD_CHARS
        # A quote that is open stays so in a line without one.
        if '"' not in line and len(self._begun) > 1 and not is_large:
            return None
        try:
            cells = _next(csv.reader(_Lines(self._begun), delimiter=self._delimiter))
        except _MoreWanted:
            if self._begun_chars > MAX_ROW_CHARS:
                self._refuse(f"belongs to a row of more than {MAX_ROW_CHARS} characters")
            return None
        if cells is None and len(self._begun) > 1 and is_large:
            self._refuse(f"goes on for more than {MAX_FIELD_CHARS} characters")
        row = Row(self._next_line - len(self._begun), cells)
        self._begun, self._begun_chars = [], 0
        return row

    def _refuse(self, what: str) -> NoReturn:
        first = self._next_line - len(self._begun)
        line = first + "".join(self._begun)[: _opening_quote(self._begun)].count("\n")
        raise Stopped(StopReason.UNREADABLE_FILE, f"the quote that opens in line {line} {what}")


def _next(reader: Iterator[list[str]]) -> list[str] | None:
    try:
        return next(reader)
    except csv.Error:
        return None


def _opening_quote(lines: Sequence[str]) -> int:
    """Return where, in these lines, the quote stands that is still open behind them."""
    text = "".join(lines)
    at = opening = text.find('"')
    while at >= 0:
        opening = at
        at = text.find('"', at + 1)
        while at >= 0 and text.startswith('""', at):  # one, within the field
            at = text.find('"', at + 2)
        if at >= 0:
            at = text.find('"', at + 1)
    return opening


class _MoreWanted(Exception):
    """The parser asks for another line in the midst of a row: a quote is open."""


class _Lines:
    def __init__(self, lines: list[str]) -> None:
        self._left = iter(lines)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self._left, None)
        if line is None:
            raise _MoreWanted
        return line
