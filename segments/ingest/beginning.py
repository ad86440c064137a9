"""
Finds a text file's header, column of hashes and base64 encoding in its first lines.

A quoted name with a line break extends a header over several lines (RFC 4180, 2, 6). Each joined
shard has its header.
"""

from collections.abc import Sequence
from typing import NamedTuple

from segments.ingest.csv_rows import CsvRows
from segments.ingest.hash_value import bare, base64_digest, is_null
from segments.ingest.header import (
    cells_of,
    column_of_hashes,
    delimiter_of,
    is_header,
    is_table_header,
    known_text,
)
from segments.ingest.lines import MAX_LINE_BYTES

LINES_LOOKED_AT = 1000
"""The non-empty lines that decide about base64 and the column of hashes."""


class Header(NamedTuple):
    """A file's header."""

    first_line: int  # from 1
    last_line: int
    text: str  # only if it is a known name
    value: bytes  # the name of the column with the hashes


class Beginning(NamedTuple):
    """A file's format."""

    lines: bytes  # after the header, each with its line end
    header: Header | None = None
    is_base64: bool = False
    column: int = 0  # of hashes, from 0
    delimiter: str | None = None  # between columns; `None`: the file is no table


def beginning_of(text: bytes) -> Beginning:
    """
    Determine a file's format from its first lines, with their line ends.

    Raises:
        Stopped: UNREADABLE_FILE: two columns of a table could be the hashes, or a quote is not
            closed.
    """
    lines = text.split(b"\n")[:-1]
    values = [bare(line) for line in lines[:LINES_LOOKED_AT]]
    at = next((at for at, value in enumerate(values) if value), None)
    if at is None:
        return Beginning(text)
    table = _table_at(lines, at)
    if table is not None:
        return table
    header = None
    if is_header(values[at]):
        header = Header(at + 1, at + 1, known_text(lines[at]), values[at])
        values, lines = values[at + 1 :], lines[at + 1 :]
    return Beginning(_joined(lines), header, _is_base64(values))


def lines_as_text(lines: Sequence[bytes]) -> list[str]:
    """Return lines, with their line ends, as text for the CSV reader."""
    return [line.decode(errors="replace") + "\n" for line in lines]


def _table_at(lines: list[bytes], at: int) -> Beginning | None:
    line, end = lines[at], at + 1
    if not is_table_header(line):
        line, end = _closed(lines, at)
    if not is_table_header(line):
        return None
    header = line.decode(errors="replace")
    delimiter = delimiter_of(header)
    assert delimiter is not None, "a table has one"
    rows = CsvRows(delimiter, first_line=end + 1).feed(
        lines_as_text(lines[end : end + LINES_LOOKED_AT])
    )
    sample = [row.cells for row in rows if row.cells]
    names = cells_of(header, delimiter)
    column = column_of_hashes(names, sample)
    if column is None:
        return None
    return Beginning(
        _joined(lines[end:]),
        Header(at + 1, end, known_text(line), bare(names[column].encode())),
        _is_base64([bare(row[column].encode()) for row in sample if column < len(row)]),
        column,
        delimiter,
    )


def _closed(lines: list[bytes], at: int) -> tuple[bytes, int]:
    """Join a line with later lines until its quotes close; return it and the next index."""
    line, end = lines[at], at + 1
    while line.count(b'"') % 2 and end < len(lines) and len(line) <= MAX_LINE_BYTES:
        line, end = line + b"\n" + lines[end], end + 1
    return line, end


def _is_base64(values: Sequence[bytes]) -> bool:
    said = [value for value in values if value and not is_null(value)]
    return bool(said) and all(base64_digest(value) is not None for value in said)


def _joined(lines: Sequence[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)
