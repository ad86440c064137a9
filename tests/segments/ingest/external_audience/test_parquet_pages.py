"""Pages are found by their own headers, whatever bytes stand where one should be."""

import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from segments.ingest.external_audience.parquet_pages import pages_of
from segments.ingest.external_audience.thrift import ThriftUnreadable


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("has_dictionary", [True, False])
def test_all_pages_of_a_column_are_found(
    version: str, compression: str, has_dictionary: bool
) -> None:
    file = io.BytesIO()
    values = pa.table({"a": [f"{n % 500:064}" for n in range(20_000)]})
    parquet.write_table(
        values,
        file,
        compression=compression,
        use_dictionary=has_dictionary,
        data_page_version=version,
        data_page_size=100_000,
        write_batch_size=500,
    )
    [chunk] = [parquet.ParquetFile(file).metadata.row_group(0).column(0)]
    starts = [at for at in (chunk.dictionary_page_offset, chunk.data_page_offset) if at]

    pages = list(pages_of(file, min(starts), min(starts) + chunk.total_compressed_size))  # type: ignore[arg-type] # reads and seeks alike

    assert sum(page.values for page in pages if not page.is_dictionary) == 20_000
    assert [page.values for page in pages if page.is_dictionary] == [500] * has_dictionary
    assert {page.is_by_dictionary for page in pages if not page.is_dictionary} == {has_dictionary}
    # All but the headers.
    assert 0 <= chunk.total_uncompressed_size - sum(p.size_bytes for p in pages) < 200 * len(pages)


def test_header_with_a_list_for_its_type_is_refused() -> None:
    raw = bytes([0x19, 0x15, 0, 0x15, 0, 0x15, 0, 0])  # 1: list<i32>[0], 2: i32 0, 3: i32 0, end

    with pytest.raises(ThriftUnreadable):
        list(pages_of(io.BytesIO(raw), 0, len(raw)))  # type: ignore[arg-type] # as above


@given(st.binary(max_size=200))
def test_bytes_that_are_no_header_are_refused_or_read(raw: bytes) -> None:
    try:
        pages = list(pages_of(io.BytesIO(raw), 0, len(raw)))  # type: ignore[arg-type] # as above
    except ThriftUnreadable:
        return
    assert all(page.size_bytes >= 0 for page in pages)
