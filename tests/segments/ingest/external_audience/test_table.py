"""Customers' files to rows, in every format, in small blocks and in bounded memory."""

import csv
import gzip
import io
import json
import tracemalloc
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segments.ingest.external_audience import table as rows_module
from segments.ingest.external_audience.person import ABSENT
from segments.ingest.external_audience.table import MAX_ROW_BYTES, Table
from segments.model.stop_reason import Stopped, StopReason
from tests.segments.ingest.deliveries import tar_of
from tests.segments.ingest.external_audience.rows import rows_of


def read(
    content: bytes, required: tuple[str, ...] = ("a",), optional: tuple[str, ...] = ()
) -> tuple[list[list[Any]], int]:
    """Return the rows, and how many were bad."""
    table = Table(io.BytesIO(content), len(content), required, optional)  # type: ignore[arg-type] # reads and seeks alike
    return [list(row) for row in rows_of(table)], table.bad


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"a,b\n1,2\n3,4\n", [["1"], ["3"]], id="CSV"),
        pytest.param(b"\xef\xbb\xbfb,a\r\n1,2\r\n", [["2"]], id="byte order mark, CRLF"),
        pytest.param(b'"a","b"\n"1,""x""\ny",2\n', [['1,"x"\ny']], id="quotes"),
        pytest.param(b"a\n1", [["1"]], id="no line end"),
        pytest.param(b"a\n\n1\n\n", [["1"]], id="blank lines"),
        pytest.param(b"b,a\n1,2\n  \n\t\n", [["2"]], id="lines of blanks"),
        pytest.param(b"", [], id="nothing"),
        pytest.param(b'{"a": 1}\n\n{"b": 2}\n', [[1], [None]], id="JSON lines"),
        pytest.param(b' \n[{"a": "x"}, {"a": [{"y": 2}]}]', [["x"], [[{"y": 2}]]], id="array"),
        pytest.param(b"[]", [], id="empty array"),
        pytest.param(gzip.compress(b"a\n1\n"), [["1"]], id="CSV.gz"),
        pytest.param(gzip.compress(b'{"a": 1}\n'), [[1]], id="JSON.gz"),
    ],
)
def test_file_becomes_rows_by_what_it_is(content: bytes, expected: list[list[Any]]) -> None:
    assert read(content) == (expected, 0)


@pytest.mark.parametrize(
    ("content", "good", "bad"),
    [
        pytest.param(b"b,a\n1\n2,3\n", [["3"]], 1, id="too few fields"),
        pytest.param(b'{"a": 1}\n{broken\n3\n{"a": 2}\n', [[1], [2]], 2, id="no JSON objects"),
        pytest.param(b'[{"a": 1}, 3, "x", {"a": 2}]', [[1], [2]], 2, id="of an array"),
        pytest.param(b'{"a":1}\n' + b"[" * 100_000 + b"\n", [[1]], 1, id="deep"),
        pytest.param(
            b"a\n1\n" + b"x" * (MAX_ROW_BYTES * 3) + b"\n2\n", [["1"], ["2"]], 1, id="long line"
        ),
    ],
)
def test_row_that_cannot_be_read_is_counted_and_left_out(
    content: bytes, good: list[list[Any]], bad: int
) -> None:
    assert read(content) == (good, bad)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b'[{"a": 1}, {"a": 2}]\n[{"a": 3}]\n', id="one a line"),
        pytest.param(b'[{"a":1},{"a":2}][{"a":3}]', id="one behind the other"),
        pytest.param(
            gzip.compress(b'[{"a": 1}, {"a": 2}]') + gzip.compress(b'\xef\xbb\xbf[{"a": 3}]'),
            id="one a member, with a mark of its own",
        ),
        pytest.param(b'[]\n[{"a": 1}, {"a": 2}]\n{"a": 3}\n', id="and an object of its own"),
        pytest.param(b'{"a": 1}\n[{"a": 2}, {"a": 3}]\n', id="behind an object"),
    ],
)
def test_rows_of_every_json_array_of_a_file_are_read(content: bytes) -> None:
    assert read(content) == ([[1], [2], [3]], 0)


def test_field_in_quotes_may_have_several_lines() -> None:
    """RFC 4180, section 2, 6."""
    assert read(b'a,b\n"one\ntwo",1\nthree,2\n', ("a",)) == ([["one\ntwo"], ["three"]], 0)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        pytest.param(b'a,b\n1,2\n3,"4\n5,6\n', 3, id="end of the file"),
        pytest.param(b'a\n1\n"' + b"x\n" * 100_000 + b'"\n2\n', 3, id="too large"),
        pytest.param(b'a,b\n"x\ny","z\n1,2\n', 3, id="in the second line of a row"),
        pytest.param('a\r"1\r2\r'.encode("utf-16"), 2, id="UTF-16 of an old Mac"),
    ],
)
def test_quote_that_is_not_closed_stops_the_file_and_its_line_is_named(
    content: bytes, line: int
) -> None:
    with pytest.raises(Stopped, match=f"opens in line {line} ") as stopped:
        read(content)

    assert stopped.value.reason is StopReason.UNREADABLE_FILE


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_text_of_a_spreadsheet_is_read_in_its_encoding(encoding: str, line_end: str) -> None:
    text = line_end.join(["a\tb", "1\tx", "2\ty", ""]).replace("\t", ",")

    assert read(text.encode(encoding)) == ([["1"], ["2"]], 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(tar_of({"a.csv": b"a\n1\n"}), StopReason.UNREADABLE_FILE, id="tar"),
        pytest.param(b"b,c\n1,2\n", StopReason.UNREADABLE_FILE, id="column missing"),
        pytest.param(b"a,a\n1,2\n", StopReason.UNREADABLE_FILE, id="column twice"),
        pytest.param(b'[{"a": 1}, {', StopReason.UNREADABLE_FILE, id="array cut short"),
        pytest.param(b"[" * 3_000_000, StopReason.UNREADABLE_FILE, id="deep array"),
        pytest.param(b"PAR1garbage", StopReason.UNREADABLE_FILE, id="no Parquet"),
        pytest.param(gzip.compress(b"a\n" * 9999)[:-9], StopReason.UNREADABLE_FILE, id="cut .gz"),
        pytest.param(gzip.compress(bytes(80 << 20)), StopReason.INFLATES_TOO_FAR, id="bomb"),
    ],
)
def test_file_that_is_not_what_was_described_is_refused(content: bytes, reason: StopReason) -> None:
    with pytest.raises(Stopped) as stopped:
        read(content)

    assert stopped.value.reason is reason


def test_optional_columns_are_there_if_the_file_has_them() -> None:
    assert read(b"delete,a\n1,2\n", ("a",), ("delete", "x")) == ([["2", "1"]], 0)
    assert read(b'{"a": 2}\n', ("a",), ("delete",)) == ([[2, ABSENT]], 0)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"x, DELETE ,Mail\n1,2,3\n", id="CSV"),
        pytest.param(b'{"x": 1, "DELETE": "2", "Mail": "3"}\n', id="JSON lines"),
        pytest.param(b'[{"Mail": "3", "x": 1, "DELETE": "2"}]', id="JSON array"),
    ],
)
def test_column_is_found_in_any_case(content: bytes) -> None:
    """
    Warehouses write names in capitals; a `DELETE` that is not seen keeps who should leave.
    """
    assert read(content, ("mail",), ("delete",)) == ([["3", "2"]], 0)


def test_case_of_a_json_objects_members_may_change_from_row_to_row() -> None:
    content = b'{"A": 1}\n{"a": 2, "Delete": 1}\n{"a": 3, "b": 4}\n{"a": 5, "delete": 0}\n'

    assert read(content, ("a",), ("delete",)) == ([[1, ABSENT], [2, 1], [3, ABSENT], [5, 0]], 0)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"a,DELETE,Delete\n1,0,1\n", id="CSV"),
        pytest.param(b'{"a": 1}\n{"a": 1, "DELETE": 0, "Delete": 1}\n', id="JSON lines"),
        pytest.param(b'[{"a": 1, "DELETE": 0, "Delete": 1}]', id="JSON array"),
    ],
)
def test_file_with_two_columns_that_differ_in_case_alone_is_refused(content: bytes) -> None:
    with pytest.raises(Stopped, match="it has columns DELETE and Delete"):
        read(content, ("a",), ("delete",))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"a,delete,delete\n1,0,1\n", id="CSV"),
        pytest.param(b'{"a": 1, "delete": 1, "delete": 0}\n', id="JSON lines"),
        pytest.param(b'[{"a": 1, "delete": 1, "delete": 0}]', id="JSON array"),
    ],
)
def test_file_with_a_wanted_column_twice_is_refused(content: bytes) -> None:
    """
    One of the two may be the person's no.
    """
    with pytest.raises(Stopped, match="it has column delete twice"):
        read(content, ("a",), ("delete",))


def test_columns_that_nobody_reads_may_be_there_in_any_case_and_twice() -> None:
    assert read(b"a,x,X\n1,2,3\n") == ([["1"]], 0)
    assert read(b'{"a": {"x": 1, "x": 2}, "b": 1, "b": 2}\n') == ([[{"x": 2}]], 0)


def test_parquet_columns_of_any_type_are_read_as_what_they_mean() -> None:
    import pyarrow as pa
    from pyarrow import parquet

    uuid, moment_ns = UUID("aebe52e7-03ee-455a-b3c4-e57283966239"), 1767225600000000001
    rows = pa.table(
        {
            "ID": pa.array([Decimal(12)], pa.decimal128(38, 0)),
            "Device": pa.array([uuid.bytes], pa.uuid()),
            "Raw": pa.array([b"\xff\x00"]),
            "DELETED_AT": pa.array([moment_ns], pa.timestamp("ns", tz="Europe/Berlin")),
            "Day": pa.array([date(2026, 1, 2)]),
        }
    )
    written = io.BytesIO()
    parquet.write_table(rows, written)

    found, bad = read(written.getvalue(), ("id", "device", "raw", "deleted_at", "day"), ("delete",))

    moment = "2026-01-01 00:00:00.000000001"
    assert (found, bad) == ([[Decimal(12), uuid, b"\xff\x00", moment, "2026-01-02"]], 0)


def test_parquet_file_with_two_columns_that_differ_in_case_alone_is_refused() -> None:
    import pyarrow as pa
    from pyarrow import parquet

    written = io.BytesIO()
    parquet.write_table(pa.table({"a": ["x"], "delete": [0], "DELETE": [1]}), written)

    with pytest.raises(Stopped, match="it has columns delete and DELETE"):
        read(written.getvalue(), ("a",), ("delete",))


@given(
    table=st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0")),
                 min_size=2, max_size=2),
        max_size=20,
    ),
    block_bytes=st.integers(1, 64),
)  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_rows_do_not_depend_on_how_the_file_is_cut(
    monkeypatch: pytest.MonkeyPatch, table: list[list[str]], block_bytes: int
) -> None:
    written = io.StringIO()
    csv.writer(written).writerows([["a", "b"], *table])
    as_lines = "".join(json.dumps({"a": a, "b": b}) + "\n" for a, b in table).encode()
    as_array = json.dumps([{"a": a, "b": b} for a, b in table]).encode()

    with monkeypatch.context() as patched:
        patched.setattr(rows_module, "BLOCK_BYTES", block_bytes)
        found = [
            read(content, ("a", "b"))
            for content in (written.getvalue().encode(), as_lines, as_array)
            if content
        ]

    assert all(each == (table, 0) for each in found)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    line = b"someone@example.com," + b"7" * 200 + b"\n"
    with path.open("wb") as file:
        file.write(b"mail,list_id\n")
        for _ in range(20):
            file.write(line * 5_000)

    tracemalloc.start()
    with path.open("rb", buffering=0) as raw:
        count = sum(1 for _ in rows_of(Table(raw, path.stat().st_size, ("mail",), ())))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == 100_000
    assert peak_bytes < 16 << 20 < path.stat().st_size
