"""
What went wrong with readers of customers' tables and buckets, by public reports, tried on ours.

Each test names the report by its URL.
"""

import asyncio
import gzip
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pytest
from pyarrow import parquet
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.base_connection import BaseConnection, open_storage
from segments.files.customer_storage import Storage
from segments.ingest.external_audience.parquet_pages import pages_of
from segments.ingest.external_audience.table import Table
from segments.ingest.external_audience.thrift import ThriftUnreadable
from segments.model.identity import id_of_email_hash
from segments.model.stop_reason import Stopped
from segments.settings import Settings
from tests.engines import Engine
from tests.segments.doors.external_audience.external_world import BASE, External, external_served
from tests.segments.doors.rest.rest_world import hashes
from tests.segments.ingest.external_audience.rows import rows_of as table_rows

ALICE, BOB = (id_of_email_hash(digest) for digest in hashes("alice", "bob"))
MAILS = ("alice@example.com", "bob@example.com")


def rows_of(content: bytes, *, optional: tuple[str, ...] = ("delete",)) -> tuple[Any, int]:
    """Return the rows of a file with the column `mail`, and how many were bad."""
    raw = io.BytesIO(content)
    table = Table(raw, len(content), ("mail",), optional)  # type: ignore[arg-type] # as they read
    rows = list(table_rows(table))
    return rows, table.bad


def parquet_of(*columns: pa.Array, names: tuple[str, ...] = ("mail",)) -> bytes:
    written = io.BytesIO()
    parquet.write_table(pa.table(list(columns), names=list(names)), written)
    return written.getvalue()


ONE_COLUMN = [(mail,) for mail in MAILS]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_columns_may_stand_between_other_marks_than_commas(delimiter: str) -> None:
    """https://github.com/mholt/PapaParse/issues/951: Excel's files are of the locale it runs in."""
    rows = "".join(delimiter.join(("1", mail, "0")) + "\r\n" for mail in MAILS)
    head = delimiter.join(("id", "mail", "delete"))

    assert rows_of(f"{head}\r\n{rows}".encode()) == ([(mail, "0") for mail in MAILS], 0)


@pytest.mark.parametrize("hint", ["sep=;\r\n", "\ufeffsep=;\r\n"])
def test_excels_word_on_the_delimiter_is_no_header(hint: str) -> None:
    """https://github.com/rap2hpoutre/fast-excel/issues/327: it was seen as a column."""
    content = f"{hint}id;mail\r\n" + "".join(f"1;{mail}\r\n" for mail in MAILS)

    assert rows_of(content.encode()) == (ONE_COLUMN, 0)


def test_header_of_each_shard_is_a_header() -> None:
    """https://github.com/biocore/micov/issues/42: the second header was taken for data."""
    shards = [gzip.compress(f"id,mail\n1,{mail}\n".encode()) for mail in MAILS]

    assert rows_of(b"".join(shards)) == (ONE_COLUMN, 0)


def test_block_compressed_text_is_read_to_its_end() -> None:
    """https://github.com/apache/arrow-rs/pull/4419: bgzip writes many members, the last empty."""
    content = f"mail\n{MAILS[0]}\n{MAILS[1]}\n".encode()
    members = [content[at : at + 7] for at in range(0, len(content), 7)]

    assert rows_of(b"".join(map(gzip.compress, [*members, b""]))) == (ONE_COLUMN, 0)


def test_rows_with_a_delimiter_too_many_keep_their_columns() -> None:
    """https://github.com/pandas-dev/pandas/issues/38830: columns were misaligned."""
    content = "mail,delete\n" + "".join(f"{mail},0,\n" for mail in MAILS)

    assert rows_of(content.encode()) == ([(mail, "0") for mail in MAILS], 0)


def test_line_break_in_a_header_is_part_of_a_name() -> None:
    """https://github.com/duckdb/duckdb/issues/16760"""
    content = '"customer\nnumber","mail"\n' + "".join(f"1,{mail}\n" for mail in MAILS)

    assert rows_of(content.encode()) == (ONE_COLUMN, 0)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(pa.large_string(), id="large string"),
        pytest.param(pa.string_view(), id="string view"),
        pytest.param(pa.dictionary(pa.int32(), pa.string()), id="dictionary"),
        pytest.param(pa.binary(), id="binary"),
    ],
)
def test_text_is_text_in_whichever_form_a_writer_keeps_it(kind: pa.DataType) -> None:
    """https://github.com/apache/arrow/issues/39682, and of dictionaries
    https://github.com/pola-rs/polars/issues/17945: some readers could not read it.
    """
    rows, bad = rows_of(parquet_of(pa.array(MAILS).cast(kind)))

    texts = [value.decode() if isinstance(value, bytes) else value for (value,) in rows]
    assert (texts, bad) == (list(MAILS), 0)


def test_dictionary_that_changes_between_row_groups_is_read() -> None:
    """https://github.com/pola-rs/polars/issues/28959: a plain page after dictionary pages."""
    kind = pa.dictionary(pa.int32(), pa.string())
    written = io.BytesIO()
    schema = pa.schema([("mail", kind)])
    with parquet.ParquetWriter(written, schema) as writer:
        for mail in MAILS:
            writer.write_table(pa.table([pa.array([mail]).cast(kind)], schema=schema))

    assert rows_of(written.getvalue()) == (ONE_COLUMN, 0)


async def bucket_with(s3: str, monkeypatch: pytest.MonkeyPatch, *keys: str) -> Storage:
    """Make a bucket whose keys with a slash at their end are empty."""
    monkeypatch.setenv("CUSTOMER_SECRET", "secret")
    client = boto3.client(
        "s3", endpoint_url=s3, region_name="us-east-1", aws_access_key_id="AKID",
        aws_secret_access_key="secret",
    )  # fmt: skip
    await asyncio.to_thread(client.create_bucket, Bucket="markers")
    for key in keys:
        body = b"" if key.endswith("/") else b"mail\nx@example.com\n"
        await asyncio.to_thread(client.put_object, Bucket="markers", Key=key, Body=body)
    options = {
        "aws_access_key_id": "AKID",
        "aws_secret_access_key": "env:CUSTOMER_SECRET",
        "aws_region": "us-east-1",
        "aws_endpoint_url": s3,
        "allow_http": "true",
    }
    return open_storage(BaseConnection(1, "x", 1, "x", "s3://markers", options))


async def test_marker_of_a_folder_in_a_bucket_is_no_file(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """https://github.com/mlflow/mlflow/pull/25137: listed as a file, it could not be read.

    obstore takes the slash off: https://github.com/atlanhq/application-sdk/pull/1622.
    """
    storage = await bucket_with(s3, monkeypatch, "in/", "in/day=1/", "in/day=1/a.csv")

    files = await asyncio.to_thread(storage.folder, "in")

    assert [file.path for file in files] == ["in/day=1/a.csv"]


@pytest.fixture
async def external(
    settings: Settings, ledger: AsyncEngine, valkey: Engine, tmp_path: Path
) -> AsyncIterator[External]:
    async with external_served(settings, ledger, valkey, tmp_path / "customer") as external:
        yield external


async def test_what_spark_leaves_beside_its_parts_is_no_data(external: External) -> None:
    """https://github.com/apache/druid/issues/9411, and of hidden files
    https://github.com/bigdatagenomics/adam/issues/520
    """
    audience_id = await external.create()
    external.put("part-00000.csv", f"mail,list_id\n{MAILS[0]},1\n")
    external.put("part-00001.csv", f"mail,list_id\n{MAILS[1]},1\n")
    external.put("_SUCCESS", "")
    external.put("_committed_4711", '{"added": ["part-00000.csv"]}')
    external.put(".part-00000.csv.crc", b"crc\0")
    external.put("_temporary/0/part-00000.csv", "mail,list_id\nx@example.com,1\n")

    run = await external.run(audience_id)

    assert run["status"] == "SUCCESS", run
    assert await external.members([ALICE, BOB]) == [True, True]


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "application/json;charset=UTF-8"]
)
async def test_charset_of_a_body_that_is_json_is_no_error(
    external: External, content_type: str
) -> None:
    """https://github.com/aws/chalice/issues/306: OkHttp adds it by itself."""
    answer = await external.rest.ask(
        "POST", BASE, external.spec, headers={"Content-Type": content_type}
    )

    assert answer.status == 202, answer


def test_size_that_a_page_claims_is_not_believed() -> None:
    """https://github.com/hardwood-hq/hardwood/issues/201: as much memory was taken for it."""
    file = io.BytesIO()
    texts = pa.table({"mail": ["x" * 1000 + str(n) for n in range(2000)]})
    parquet.write_table(texts, file, compression="zstd", use_dictionary=False)
    raw = bytearray(file.getvalue())
    at = raw.index(b"\x15\x00\x15") + 3  # a page of values, and its size
    raw[at : at + 4] = b"\xfe\xff\xff" + bytes([raw[at + 3] | 0x40])

    with pytest.raises(Stopped, match="column mail of row group 0 has a page of"):
        rows_of(bytes(raw))


def test_statistics_that_a_page_claims_to_have_are_not_believed() -> None:
    """https://github.com/nao1215/filesql/issues/526: 473 bytes took 98 MiB."""
    # A page of values: its sizes, then of its values' head the statistics, 98 MiB of them.
    length = b"\x80\x80\x80\x31"
    head = b"\x15\x00\x15\x08\x15\x08\x2c\x15\x02\x15\x00\x15\x06\x15\x06\x1c\x18" + length

    with pytest.raises(ThriftUnreadable):
        list(pages_of(io.BytesIO(head), 0, len(head)))  # type: ignore[arg-type] # reads and seeks alike


def test_long_json_that_rows_repeat_is_not_put_together_for_all_of_them() -> None:
    """https://github.com/apache/iceberg-python/issues/3168: 6 MB became 4 GB."""
    file = io.BytesIO()
    piece = pa.array(['{"x": "' + "y" * 50_000 + '"}'] * 100)
    table = pa.table({"mail": pa.chunked_array([piece] * 100)})
    parquet.write_table(table, file, compression="zstd")

    before = pa.default_memory_pool().max_memory()
    with pytest.raises(Stopped, match="become more than 100 times that"):
        rows_of(file.getvalue())

    assert pa.default_memory_pool().max_memory() <= max(before, 100 << 20)
