"""Customers' files to rows, in every format, in small blocks and in bounded memory."""

import csv
import gzip
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segments.ingest.external_audience import table as rows_module
from segments.ingest.external_audience.person import ABSENT
from segments.ingest.external_audience.table import MAX_ROW_BYTES, Table
from segments.model.stop_reason import Stopped, StopReason


def read(
    content: bytes, required: tuple[str, ...] = ("a",), optional: tuple[str, ...] = ()
) -> tuple[list[list[Any]], int]:
    """Return the rows, and how many were bad."""
    table = Table(io.BytesIO(content), len(content), required, optional)  # type: ignore[arg-type] # reads and seeks alike
    return [list(row) for row in table.rows()], table.bad


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"a,b\n1,2\n3,4\n", [["1"], ["3"]], id="CSV"),
        pytest.param(b"\xef\xbb\xbfb,a\r\n1,2\r\n", [["2"]], id="byte order mark, CRLF"),
        pytest.param(b'"a","b"\n"1,""x""\ny",2\n', [['1,"x"\ny']], id="quotes"),
        pytest.param(b"a\n1", [["1"]], id="no line end"),
        pytest.param(b"a\n\n1\n\n", [["1"]], id="blank lines"),
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
        pytest.param(b'a\n1\n"' + b"x\n" * 100_000 + b'"\n2\n', None, 1, id="long quote"),
    ],
)
def test_row_that_cannot_be_read_is_counted_and_left_out(
    content: bytes, good: list[list[Any]] | None, bad: int
) -> None:
    found, counted = read(content)

    assert good is None or found == good
    assert counted == bad


@pytest.mark.parametrize(
    ("content", "reason"),
    [
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


def test_parquet_is_read_group_by_group_and_only_the_wanted_columns(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "x.parquet"
    rows = pa.table({"n": list(range(50_000)), "a": [f"x{n}" for n in range(50_000)]})
    parquet.write_table(rows, path, row_group_size=1000)

    with path.open("rb", buffering=0) as raw:
        table = Table(raw, path.stat().st_size, ("a",), ("delete",))
        found = [value for (value,) in table.rows()]

    assert found == [f"x{n}" for n in range(50_000)]
    assert table.columns == ("a",)


def test_parquet_with_a_row_group_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    written = io.BytesIO()
    parquet.write_table(pa.table({"a": [f"{n}" for n in range(1000)]}), written)
    monkeypatch.setattr(rows_module, "MAX_ROW_GROUP_BYTES", 100)

    with pytest.raises(Stopped, match="row group 0"):
        read(written.getvalue())


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    line = b"someone@example.com,7\n"
    with path.open("wb") as file:
        file.write(b"mail,list_id\n")
        for _ in range(20):
            file.write(line * 50_000)

    tracemalloc.start()
    with path.open("rb", buffering=0) as raw:
        count = sum(1 for _ in Table(raw, path.stat().st_size, ("mail",), ()).rows())
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == 1_000_000
    assert peak_bytes < 16 << 20 < path.stat().st_size
