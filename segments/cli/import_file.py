"""
Reads the CSV files of `rtb-segments import`: accounts, users or audiences, by the columns.

Every fault is collected, so that one run names them all. Blank lines are passed over. Columns may
stand in any order; Excel's `;` between them and a byte order mark are accepted.
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from segments.model.account import AccountKind


class Subject(StrEnum):
    """The subject of a file's rows, in the order of addition."""

    ACCOUNTS = "accounts"
    USERS = "users"
    AUDIENCES = "audiences"


class Fault(NamedTuple):
    """A fault of a file; `line` counts from 1, the header included."""

    file: Path
    line: int
    column: str | None  # `None`: the fault concerns the whole line
    text: str

    def __str__(self) -> str:
        place = f"{self.file}, line {self.line}"
        column = "" if self.column is None else f", column {self.column}"
        return f"{place}{column}: {self.text}"


class Row(NamedTuple):
    """A row to add; `cells` has every column of its subject, `None` for an empty cell."""

    file: Path
    line: int
    subject: Subject
    cells: Mapping[str, Any]

    def fault(self, column: str | None, text: str) -> Fault:
        """Return a fault of this row."""
        return Fault(self.file, self.line, column, text)


class _NoCsv(Exception):
    def __init__(self, said: str, line: int) -> None:
        super().__init__(said)
        self.line = line


class _Column(NamedTuple):
    read: Callable[[str], Any]  # raises ValueError with the fault
    is_required: bool = False


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) < 1 << 31:
        raise ValueError("not a positive whole number")
    return int(text)


def _kind(text: str) -> AccountKind:
    try:
        return AccountKind(text)
    except ValueError:
        raise ValueError(f"not one of {', '.join(AccountKind)}") from None


def _yes(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError("neither yes nor no")
    return text == "yes"


COLUMNS: Final[Mapping[Subject, Mapping[str, _Column]]] = {
    Subject.ACCOUNTS: {
        "kind": _Column(_kind, is_required=True),
        "id": _Column(str, is_required=True),
        "name": _Column(str, is_required=True),
        "parent": _Column(str),
        "segtax": _Column(_number),
    },
    Subject.USERS: {
        "username": _Column(str, is_required=True),
        "partner": _Column(str, is_required=True),
        "sub_id": _Column(str),
        "admin": _Column(_yes),
    },
    Subject.AUDIENCES: {
        "segment_id": _Column(str, is_required=True),
        "partner": _Column(str, is_required=True),
        "sub_id": _Column(str),
        "name": _Column(str, is_required=True),
        "ttl_days": _Column(_number),
    },
}
"""The columns of each subject; the first is its key, and tells the subject of a file."""


def read_rows(file: Path) -> tuple[list[Row], list[Fault]]:
    """Return the rows of a file without a fault, and the faults of the others."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        return [], [Fault(file, line, None, "not UTF-8; save the table as CSV in UTF-8")]
    rows: list[Row] = []
    faults: list[Fault] = []
    try:
        lines = _lines(text)
        line, header = next(lines, (1, []))
        subject, faults = _subject_of(file, line, header)
        if subject is None or faults:
            return [], faults
        for line, cells in lines:
            row, wrong = _row(Row(file, line, subject, {}), header, cells)
            faults += wrong
            if not wrong:
                rows.append(row)
    except _NoCsv as error:
        return rows, [*faults, Fault(file, error.line, None, f"no CSV: {error}")]
    return rows, faults


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each non-blank line with its number: of a quoted cell, the first."""
    first, _, _ = text.partition("\n")
    separator = ";" if ";" in first and "," not in first else ","
    reader = csv.reader(text.splitlines(keepends=True), delimiter=separator, strict=True)
    line = 1
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield line, stripped
            line = reader.line_num + 1
    except csv.Error as error:
        raise _NoCsv(str(error), line) from None


def _subject_of(file: Path, line: int, header: Sequence[str]) -> tuple[Subject | None, list[Fault]]:
    if not header:
        return None, [Fault(file, line, None, "no header, which names the columns")]
    found = [each for each in Subject if next(iter(COLUMNS[each])) in header]
    if len(found) != 1:
        wanted = "; ".join(f"{each.value}: {','.join(COLUMNS[each])}" for each in Subject)
        return None, [Fault(file, line, None, f"columns of no table to import ({wanted})")]
    [subject] = found
    known = COLUMNS[subject]
    faults = [
        Fault(
            file, line, name or f"number {at}", f"unknown; {subject.value} have {', '.join(known)}"
        )
        for at, name in enumerate(header, 1)
        if name not in known
    ]
    faults += [
        Fault(file, line, name, "named twice") for name in {*header} if header.count(name) > 1
    ]
    faults += [
        Fault(file, line, name, "missing")
        for name, column in known.items()
        if column.is_required and name not in header
    ]
    return subject, faults


def _row(row: Row, header: Sequence[str], cells: Sequence[str]) -> tuple[Row, list[Fault]]:
    if len(cells) != len(header):
        said = f"{len(cells)} cells, where the header has {len(header)}"
        return row, [row.fault(None, said)]
    read: dict[str, Any] = dict.fromkeys(COLUMNS[row.subject])
    faults = []
    for name, cell in zip(header, cells, strict=True):
        column = COLUMNS[row.subject][name]
        if not cell and column.is_required:
            faults.append(row.fault(name, "empty"))
        elif cell:
            try:
                read[name] = column.read(cell)
            except ValueError as error:
                faults.append(row.fault(name, str(error)))
    return row._replace(cells=read), faults
