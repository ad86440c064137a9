"""Rows of CSV are the same in whatever pieces the lines come, and cost by their length."""

import csv
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.ingest.csv_rows import CsvRows, Row
from segments.model.stop_reason import Stopped

LINES = st.lists(st.text('a",\r', max_size=6).map(lambda text: text + "\n"), max_size=12)


def rows_of(pieces: Sequence[Sequence[str]]) -> list[Row] | str:
    table = CsvRows()
    found: list[Row] = []
    try:
        for lines in pieces:
            found += table.feed(lines)
        table.finish()
    except Stopped as stopped:
        return stopped.detail
    return found


def cells_of(pieces: Sequence[Sequence[str]]) -> list[list[str] | None] | str:
    table = CsvRows()
    found: list[list[str] | None] = []
    try:
        for lines in pieces:
            found += table.cells(lines)
        table.finish()
    except Stopped as stopped:
        return stopped.detail
    return found


@given(LINES)
def test_rows_are_those_of_the_library_in_whatever_pieces_they_come(lines: list[str]) -> None:
    whole = rows_of([lines])

    assert rows_of([[line] for line in lines]) == whole
    assert rows_of([lines[:5], lines[5:]]) == whole
    if isinstance(whole, str):
        return
    reader = csv.reader(lines)
    expected: list[Row] = []
    while reader.line_num < len(lines):
        first = reader.line_num + 1
        try:
            expected.append(Row(first, next(reader)))
        except csv.Error:
            expected.append(Row(first, None))
    assert whole == expected


@given(LINES, st.integers(0, 12))
def test_cells_alone_are_those_of_the_rows(lines: list[str], cut: int) -> None:
    rows = rows_of([lines])

    expected = rows if isinstance(rows, str) else [row.cells for row in rows]
    assert cells_of([lines[:cut], lines[cut:]]) == expected


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(['"', *['""\n'] * 20_000, '"\n'], id="a field of many lines"),
        pytest.param([*['"\n', '",'] * 100_000, "\n"], id="a row of many fields of two lines"),
    ],
)
def test_row_of_many_lines_costs_by_its_length(row: list[str]) -> None:
    """
    Each line had the whole row read again: a megabyte was a quarter of an hour.
    """
    lines = "".join(row).splitlines(keepends=True)
    began_s = time.process_time()

    found = rows_of([lines[at : at + 50_000] for at in range(0, len(lines), 50_000)])

    assert [row.line for row in found if isinstance(row, Row)] == [1]
    assert time.process_time() - began_s < 5
