"""A Parquet file costs what it holds: nothing that a few bytes unfold to is put together."""

import io
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from segments.ingest.external_audience import parquet_rows as parquet_module
from segments.ingest.external_audience.table import Table
from segments.model.stop_reason import Stopped

ROWS = 16_384
LONG = "x" * 80_000


def written(column: Any) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table({"a": column}), file, compression="zstd")
    return file.getvalue()


def table_of(raw: bytes) -> Table:
    return Table(io.BytesIO(raw), len(raw), ("a",), ())  # type: ignore[arg-type] # reads and seeks alike


def rows_of(raw: bytes) -> list[Any]:
    return [value for (value,) in table_of(raw).rows()]


def test_parquet_is_read_group_by_group_and_only_the_wanted_columns(tmp_path: Path) -> None:
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
    written = io.BytesIO()
    parquet.write_table(pa.table({"a": [f"{n}" for n in range(1000)]}), written)
    monkeypatch.setattr(parquet_module, "MAX_ROW_GROUP_BYTES", 100)

    with pytest.raises(Stopped, match="row group 0"):
        rows_of(written.getvalue())


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(pa.list_(pa.string()), id="a list"),
        pytest.param(pa.list_(pa.string(), 1), id="a list of one length"),
        pytest.param(pa.struct({"b": pa.string()}), id="a structure"),
        pytest.param(pa.map_(pa.string(), pa.string()), id="a map"),
    ],
)
def test_column_of_several_values_a_row_is_refused_by_name(kind: Any) -> None:
    raw = written(pa.nulls(3, kind))

    with pytest.raises(Stopped, match="column a has several values a row, and not one"):
        rows_of(raw)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(pa.string(), id="text"),
        pytest.param(pa.large_string(), id="text as polars writes it"),
        pytest.param(pa.string_view(), id="text as views"),
        pytest.param(pa.binary(), id="bytes"),
        pytest.param(pa.dictionary(pa.int32(), pa.string()), id="a dictionary"),
        pytest.param(pa.binary(len(LONG)), id="bytes of one length"),
    ],
)
def test_long_text_that_every_row_repeats_is_not_made_for_each_of_them(kind: Any) -> None:
    """
    440 bytes became 1.3 GB.
    """
    of_one_length = pa.types.is_fixed_size_binary(kind)
    text = pa.array(
        [LONG.encode() if of_one_length else LONG] * 100, kind if of_one_length else None
    )
    raw = written(pa.chunked_array([text] * (ROWS // 100)).cast(kind))
    assert len(raw) < 10_000

    tracemalloc.start()
    count = sum(1 for _ in table_of(raw).rows())
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == ROWS // 100 * 100
    assert peak_bytes < 64 << 20


def test_values_of_a_dictionary_are_read_with_those_that_are_absent() -> None:
    values = ["b", None, "a", "b", None] * 10

    assert rows_of(written(pa.array(values).dictionary_encode())) == values
    assert rows_of(written(pa.array([None, None], pa.string()))) == [None, None]
