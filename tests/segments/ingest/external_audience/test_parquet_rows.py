"""A Parquet file costs what it holds: nothing that a few bytes unfold to is put together."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from segments.ingest.external_audience import parquet_rows as parquet_module
from segments.ingest.external_audience.table import Table
from segments.model.stop_reason import Stopped
from tests.segments.ingest.external_audience.rows import rows_of

LONG_CHARS = 20_000


def written(column: Any) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table({"a": column}), file, compression="zstd")
    return file.getvalue()


def table_of(raw: bytes) -> Table:
    return Table(io.BytesIO(raw), len(raw), ("a",), ())  # type: ignore[arg-type] # reads and seeks alike


def values_of(raw: bytes) -> list[Any]:
    return [value for (value,) in rows_of(table_of(raw))]


def test_parquet_is_read_group_by_group_and_only_the_wanted_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    rows = pa.table({"n": list(range(50_000)), "a": [f"x{n}" for n in range(50_000)]})
    parquet.write_table(rows, path, row_group_size=1000)

    with path.open("rb", buffering=0) as raw:
        table = Table(raw, path.stat().st_size, ("a",), ("delete",))
        found = [value for (value,) in rows_of(table)]

    assert found == [f"x{n}" for n in range(50_000)]
    assert table.columns == ("a",)


@pytest.mark.parametrize(
    ("limit", "has_dictionary"), [("MAX_PAGE_BYTES", False), ("MAX_DICTIONARY_BYTES", True)]
)
def test_page_that_is_too_large_is_refused_by_its_column(
    monkeypatch: pytest.MonkeyPatch, limit: str, has_dictionary: bool
) -> None:
    file = io.BytesIO()
    values = pa.table({"a": [f"{n}" for n in range(1000)]})
    parquet.write_table(values, file, use_dictionary=has_dictionary)
    monkeypatch.setattr(parquet_module, limit, 100)

    with pytest.raises(Stopped, match=r"column a of row group 0 has a page of \d+ bytes"):
        values_of(file.getvalue())


def test_footer_that_is_too_large_is_refused_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parquet_module, "MAX_FOOTER_BYTES", 100)

    with pytest.raises(Stopped, match="whose footer is larger than 100 bytes"):
        values_of(written(pa.array(["x"])))


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
        values_of(raw)


def repeated(size_bytes: int, rows: int, kind: Any) -> bytes:
    """Return a file in which every row has the same long text."""
    text: Any = "x" * size_bytes
    of_one_length = pa.types.is_fixed_size_binary(kind)
    if pa.types.is_dictionary(kind):
        places = pa.array([0] * rows, pa.int32())
        return written(pa.DictionaryArray.from_arrays(places, pa.array([text])))
    piece = pa.array([text.encode() if of_one_length else text] * 100, kind)
    return written(pa.chunked_array([piece] * (rows // 100)))


def delta_encoded() -> bytes:
    """Return a file in which each text is the beginning of the one before it, all of it."""
    file = io.BytesIO()
    texts = pa.table({"a": pa.array(["x" * 20_000] * 2000)})
    parquet.write_table(
        texts,
        file,
        compression="zstd",
        use_dictionary=False,
        column_encoding={"a": "DELTA_BYTE_ARRAY"},
        data_page_size=1 << 30,
    )
    return file.getvalue()


def with_a_page_header_that_lies() -> bytes:
    """Return a file whose page, by its header, is as large as four bytes can say."""
    file = io.BytesIO()
    texts = pa.table({"a": ["x" * 1000 + str(n) for n in range(2000)]})
    parquet.write_table(texts, file, compression="zstd", use_dictionary=False)
    raw = bytearray(file.getvalue())
    page = raw.index(b"\x15\x00\x15")  # a page of values, and how large it is
    assert raw[page + 5] & 0x80
    raw[page + 3 : page + 6] = b"\xfe\xff\xff"
    raw[page + 6] |= 0x40
    return bytes(raw)


CATEGORY = pa.dictionary(pa.int32(), pa.string())
BOMBS = {
    "a text": lambda: repeated(80_000, 16_000, pa.string()),
    "text as polars writes it": lambda: repeated(80_000, 16_000, pa.large_string()),
    "text as views": lambda: repeated(80_000, 16_000, pa.string_view()),
    "bytes of one length": lambda: repeated(80_000, 16_000, pa.binary(80_000)),
    "a text that is larger than a dictionary may be": lambda: repeated(18 << 20, 1000, CATEGORY),
    "a dictionary": lambda: repeated(1 << 20, 1_000_000, CATEGORY),
    "nothing": lambda: written(pa.nulls(5_000_000, pa.string())),
    "one text": lambda: written(pa.array(["x" * (100 << 20)])),
    "beginnings": delta_encoded,
    "a lie": with_a_page_header_that_lies,
}


def test_few_bytes_of_parquet_take_little_memory_and_time_or_are_refused_by_name(
    tmp_path: Path,
) -> None:
    """
    440 bytes became 1.3 GB, and ten kilobytes 1.2 GB. In a process of its own, whose peak is
    nobody else's.
    """
    for number, bomb in enumerate(BOMBS.values()):
        (tmp_path / str(number)).write_bytes(bomb())
    assert all(
        file.stat().st_size < 100_000
        for file in tmp_path.iterdir()
        if file.name != str(len(BOMBS) - 1)
    )
    program = f"""
import resource
from pathlib import Path
from segments.ingest.external_audience.table import Table
from segments.model.stop_reason import Stopped

for number in range({len(BOMBS)}):
    path = Path({str(tmp_path)!r}) / str(number)
    with path.open("rb", buffering=0) as raw:
        try:
            table = Table(raw, path.stat().st_size, ("a",), ())
            said = sum(len(values) for [values] in table.pieces())
        except Stopped as stopped:
            said = stopped.reason.value
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Not `ru_maxrss`, which begins with what the parent has.
    [peak] = [line.split()[1] for line in open("/proc/self/status") if "VmHWM" in line]
    print(said, peak, used.ru_utime + used.ru_stime)
"""
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.splitlines()

    found = {name: line.split()[0] for name, line in zip(BOMBS, said, strict=True)}
    assert found == dict.fromkeys(BOMBS, "inflates_too_far") | {
        "a text that is larger than a dictionary may be": "unreadable_file",
        "one text": "unreadable_file",
        "a lie": "unreadable_file",
    }
    _, peak_kib, cpu_s = said[-1].split()
    assert int(peak_kib) < 300 * 1024
    assert float(cpu_s) < 10


def test_long_text_that_a_few_rows_have_is_read() -> None:
    assert values_of(repeated(LONG_CHARS, 100, pa.string())) == ["x" * LONG_CHARS] * 100


def test_values_of_a_dictionary_are_read_with_those_that_are_absent() -> None:
    values = ["b", None, "a", "b", None] * 10

    assert values_of(written(pa.array(values).dictionary_encode())) == values
    assert values_of(written(pa.array([None, None], pa.string()))) == [None, None]


@pytest.mark.parametrize(
    "encoding", ["PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "RLE_DICTIONARY"]
)
@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary()],
    ids=str,
)
def test_texts_of_every_encoding_are_read_many_rows_at_a_time(encoding: str, kind: Any) -> None:
    """
    Texts by a dictionary were read 31 rows at a time, each as long as the whole dictionary.
    """
    values = [None, *(f"person{n % 9000}@example.com" for n in range(20_000))]
    file = io.BytesIO()
    parquet.write_table(
        pa.table({"a": pa.array(values).cast(kind)}),
        file,
        use_dictionary=encoding == "RLE_DICTIONARY",
        column_encoding=None if encoding == "RLE_DICTIONARY" else {"a": encoding},
        data_page_size=1 << 16,
    )
    raw = file.getvalue()

    found = list(rows_of(table_of(raw)))

    is_text = not pa.types.is_binary(kind) and not pa.types.is_large_binary(kind)
    assert found == [(v if v is None or is_text else v.encode(),) for v in values]
    if encoding != "DELTA_BYTE_ARRAY":
        assert len(list(table_of(raw).pieces())) < 5


def test_footer_that_contradicts_itself_is_refused() -> None:
    """
    Asked for the column of such a footer, pyarrow ends the process: the loader with all its jobs.
    """
    nullable, required = b"\x25\x02\x18\x01a", b"\x25\x00\x18\x01a"
    raw = written(pa.array(["x", None]))
    assert nullable in raw

    with pytest.raises(Stopped, match="can't be read"):
        values_of(raw.replace(nullable, required))


def test_column_is_found_by_the_schema_whatever_a_row_group_calls_it() -> None:
    called, otherwise = b"\x19\x18\x01a", b"\x19\x18\x01b"
    raw = written(pa.array(["x", "y"]))
    assert called in raw

    assert values_of(raw.replace(called, otherwise)) == ["x", "y"]
