"""
What went wrong with readers of CSV, text and archives, by public reports, tried on ours.

Each test names the report by its URL. A spreadsheet, a warehouse or a packer writes it.
"""

import base64
import codecs
import gzip
import io
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from segments.files.blobs import Blobs
from segments.ingest.parse import Parser
from segments.ingest.text import text_blocks
from segments.ingest.unpack import plain_blocks
from segments.model.job import BadLine, BadLineReason
from segments.model.stop_reason import Stopped
from tests.segments.ingest.deliveries import blob_of, email_hashes, gz_of, ids_of, text_of

HASHES = email_hashes(3)
IDS = ids_of(HASHES)


class Read:
    """One file, read as a delivery is."""

    def __init__(self, parser: Parser, ids: list[bytes]) -> None:
        self.ids = ids
        self.rows = parser.rows
        self.header_rows = parser.header_rows
        self.bad = parser.samples


async def read(folder: Path, content: bytes) -> Read:
    blob = await blob_of(Blobs.in_directory(folder / "blobs"), content)
    parser = Parser()
    ids = [parser.feed(block) for block in text_blocks(plain_blocks(blob))]
    matrix = np.concatenate([*ids, parser.finish()])
    return Read(parser, [row.tobytes() for row in matrix])


def table(*rows: str) -> bytes:
    return "".join(f"{row}\r\n" for row in rows).encode()


@pytest.mark.parametrize("hint", ["sep=;", "SEP=;", '"sep=;"'])
async def test_excels_word_on_the_delimiter_is_no_record(tmp_path: Path, hint: str) -> None:
    """https://github.com/PowerShell/PowerShell/issues/7776: it was taken for the header."""
    content = table(hint, "Name;email_sha256", *(f"x;{each}" for each in HASHES))

    found = await read(tmp_path, content)

    assert (found.ids, found.rows, found.bad) == (IDS, 3, [])


async def test_excels_word_on_the_delimiter_may_stand_alone_before_hashes(tmp_path: Path) -> None:
    """https://github.com/mechatroner/vscode_rainbow_csv/issues/108"""
    found = await read(tmp_path, table("sep=,", *HASHES))

    assert (found.ids, found.rows, found.bad) == (IDS, 3, [])


@pytest.mark.parametrize("packed", [gz_of, bytes], ids=["gz", "plain"])
@pytest.mark.parametrize(
    "header",
    ["email_sha256", "id,email_sha256", '"id","email_sha256"'],
)
async def test_header_of_each_shard_is_a_header(tmp_path: Path, packed: type, header: str) -> None:
    """https://github.com/biocore/micov/issues/42: shards were joined, each with its header."""
    before = "1," if "," in header else ""
    shards = [table(header, f"{before}{each}") for each in HASHES]

    found = await read(tmp_path, b"".join(packed(shard) for shard in shards))

    assert (found.ids, found.rows, found.bad) == (IDS, 3, [])
    assert found.header_rows == 3


@pytest.mark.parametrize("null", ["\\N", "NULL", "null", '""', "NaN", "None"])
async def test_null_of_a_warehouse_is_an_empty_cell(tmp_path: Path, null: str) -> None:
    """https://github.com/hellonarrativ/spectrify/issues/6: each tool writes it in its own way."""
    found = await read(tmp_path, table("id,email_sha256", f"1,{HASHES[0]}", f"2,{null}"))

    assert found.ids == IDS[:1]
    assert found.bad == [BadLine(3, BadLineReason.EMPTY)]


async def test_delimiter_behind_the_last_column_shifts_nothing(tmp_path: Path) -> None:
    """https://github.com/pandas-dev/pandas/issues/14124: the first column became the index."""
    rows = (f"{number},{each},x," for number, each in enumerate(HASHES))

    found = await read(tmp_path, table("id,email_sha256,ltv", *rows))

    assert (found.ids, found.bad) == (IDS, [])


async def test_line_break_in_a_header_is_part_of_a_name(tmp_path: Path) -> None:
    """https://github.com/duckdb/duckdb/issues/16760: the file could not be read any more."""
    rows = (f"{number},{each}" for number, each in enumerate(HASHES))

    found = await read(tmp_path, b'"customer\nnumber","email_sha256"\r\n' + table(*rows))

    assert (found.ids, found.rows, found.bad) == (IDS, 3, [])


@pytest.mark.parametrize("field", ['"a\rb"', '"\r"', '"x\n"', '"\r\n"', '"a ""b"" c"'])
async def test_line_break_within_quotes_ends_no_row(tmp_path: Path, field: str) -> None:
    """https://github.com/JoshClose/CsvHelper/issues/645, and of LF at the end of a field
    https://github.com/tspence/csharp-csv-reader/issues/53
    """
    rows = (f"{field},{each}" for each in HASHES)

    found = await read(tmp_path, table("note,email_sha256", *rows))

    assert (found.ids, found.rows, found.bad) == (IDS, 3, [])


async def test_rows_before_a_row_of_another_width_are_kept(tmp_path: Path) -> None:
    """https://github.com/duckdb/duckdb/issues/25827: all before it were taken for a preamble."""
    found = await read(tmp_path, table("email_sha256", *HASHES, f"{HASHES[0]};x"))

    assert found.ids == IDS
    assert found.bad == [BadLine(5, BadLineReason.SEVERAL_VALUES)]


async def test_mark_before_a_quoted_header_is_no_part_of_it(tmp_path: Path) -> None:
    """https://github.com/pandas-dev/pandas/issues/4793: the first name kept a quote."""
    rows = (f'"{each}","x"' for each in HASHES)

    found = await read(tmp_path, codecs.BOM_UTF8 + table('"email_sha256","name"', *rows))

    assert (found.ids, found.rows, found.bad) == (IDS, 3, [])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
async def test_utf_16_without_its_mark_is_told_by_its_zeros(tmp_path: Path, encoding: str) -> None:
    """https://github.com/genspark-ai/genoffice/pull/438: zeros are UTF-8, too; in Chinese."""
    rows = (f"张伟\t{each}" for each in HASHES)
    text = table("姓名\temail_sha256", *rows).decode()

    found = await read(tmp_path, text.encode(encoding))

    assert (found.ids, found.rows, found.bad) == (IDS, 3, [])


async def test_name_of_the_encoding_before_the_header_is_told(tmp_path: Path) -> None:
    """https://github.com/mechatroner/vscode_rainbow_csv/issues/13: exports of a database begin so.

    What stands before a header is not guessed at; every row is counted and named.
    """
    rows = (f"1,{each}" for each in HASHES)

    found = await read(tmp_path, table("UTF-8", "id,email_sha256", *rows))

    assert (found.ids, found.rows) == ([], 4)
    assert {bad.reason for bad in found.bad} == {BadLineReason.SEVERAL_VALUES}


async def test_every_member_of_a_gz_is_read(tmp_path: Path) -> None:
    """https://github.com/Yelp/mrjob/issues/1409: only the first was."""
    members = (gz_of(text_of([each])) for each in HASHES)

    assert (await read(tmp_path, b"".join(members))).ids == IDS


async def test_empty_member_of_a_gz_ends_nothing(tmp_path: Path) -> None:
    """https://github.com/madler/zlib/issues/984: a stream ended early for its reader."""
    content = gz_of(b"") + gz_of(text_of(HASHES[:1])) + gz_of(b"") + gz_of(text_of(HASHES[1:]))

    assert (await read(tmp_path, content)).ids == IDS


async def test_zeros_behind_a_gz_are_padding(tmp_path: Path) -> None:
    """https://github.com/onekey-sec/unblob/issues/314"""
    assert (await read(tmp_path, gz_of(text_of(HASHES)) + bytes(512))).ids == IDS


async def test_bytes_behind_a_gz_stop_the_file(tmp_path: Path) -> None:
    """https://github.com/MozaicWorks/DMARCReporting/issues/18: others read on, or ignore them.

    A gz that goes on as something else was cut or joined wrongly: a part may be missing.
    """
    with pytest.raises(Stopped, match="damaged"):
        await read(tmp_path, gz_of(text_of(HASHES)) + b"trailing bytes")


async def test_zip_that_was_written_as_a_stream_is_read(tmp_path: Path) -> None:
    """https://github.com/adamhathcock/sharpcompress/issues/88: its sizes stand behind the data."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.written = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.written += bytes(data)  # type: ignore[call-overload]
            return len(data)  # type: ignore[arg-type]

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("people.csv", text_of(HASHES))

    assert (await read(tmp_path, pipe.written)).ids == IDS


async def test_zip_with_sizes_of_64_bits_is_read(tmp_path: Path) -> None:
    """https://github.com/mhr3/unzip-stream/issues/50"""
    written = io.BytesIO()
    with (
        zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("people.csv", "w", force_zip64=True) as member,
    ):
        member.write(text_of(HASHES))

    assert (await read(tmp_path, written.getvalue())).ids == IDS


async def test_zero_bytes_in_a_line_lose_no_other_line(tmp_path: Path) -> None:
    """https://github.com/turicas/rows/issues/273: a reader refused the whole file."""
    found = await read(
        tmp_path, table("id,email_sha256", f"1,{HASHES[0]}", "2,\0", f"3,{HASHES[1]}")
    )

    assert found.ids == IDS[:2]
    assert [bad.number for bad in found.bad] == [3]


async def test_compressed_text_of_a_spreadsheet_is_read_in_its_own_encoding(tmp_path: Path) -> None:
    """https://github.com/harelba/q/issues/98: UTF-16 was read by no tool as it came."""
    text = table("Name\temail_sha256", *(f"é\t{each}" for each in HASHES)).decode()

    found = await read(tmp_path, gzip.compress(codecs.BOM_UTF16_LE + text.encode("utf-16-le")))

    assert (found.ids, found.bad) == (IDS, [])


async def test_base64_beside_nulls_is_read(tmp_path: Path) -> None:
    """https://github.com/dbt-labs/dbt-external-tables/issues/63: a null kept a column's type off.

    BigQuery's bytes are base64 in CSV.
    """
    column = [base64.b64encode(bytes.fromhex(each)).decode() for each in HASHES]

    found = await read(tmp_path, table("id,email_sha256", *(f"1,{c}" for c in [*column, "null"])))

    assert found.ids == IDS
    assert found.bad == [BadLine(5, BadLineReason.EMPTY)]


def zip_by(method: int, content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr("a.txt", content)
    return packed.getvalue()


async def test_member_of_a_zip_is_unpacked_a_block_at_a_time(tmp_path: Path) -> None:
    """https://github.com/python/cpython/issues/156002: a small read unpacked all of it."""
    blob = await blob_of(Blobs.in_directory(tmp_path), zip_by(zipfile.ZIP_BZIP2, bytes(7 << 20)))

    tracemalloc.start()
    size_bytes = sum(map(len, plain_blocks(blob)))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert size_bytes == 7 << 20
    assert peak_bytes < 6 << 20  # of which 4 MiB are read ahead


async def test_dictionary_that_lzma_claims_to_need_is_not_made(tmp_path: Path) -> None:
    """https://github.com/python/cpython/issues/155649: a kilobyte took the gigabytes it named."""
    packed = bytearray(zip_by(zipfile.ZIP_LZMA, text_of(HASHES)))
    # Behind the header and the name: version and length, one byte of the model, the dictionary.
    at = 30 + len("a.txt") + 4 + 1
    packed[at : at + 4] = (1 << 31).to_bytes(4, "little")
    blob = await blob_of(Blobs.in_directory(tmp_path), bytes(packed))

    with pytest.raises(Stopped, match="damaged"):
        list(plain_blocks(blob))


async def test_size_that_a_zip_claims_of_its_member_is_not_believed(tmp_path: Path) -> None:
    """https://github.com/python/cpython/issues/151307: as much memory was asked for at once."""
    packed = bytearray(zip_by(zipfile.ZIP_DEFLATED, text_of(HASHES)))
    at = packed.index(b"PK\x01\x02") + 20
    packed[at : at + 8] = (0xFFFFFFFE).to_bytes(4, "little") * 2
    blob = await blob_of(Blobs.in_directory(tmp_path), bytes(packed))

    tracemalloc.start()
    assert b"".join(plain_blocks(blob)) == text_of(HASHES)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 16 << 20


async def test_field_of_many_quotes_costs_by_its_length(tmp_path: Path) -> None:
    """https://github.com/jpmckinney/fastcsv/pull/17, and of many lines
    https://github.com/tarql/tarql/issues/50: each quote had the field read anew.
    """
    field = '"' + '""\n' * 15_000 + '"'
    began_s = time.process_time()

    rows = [f"x,{HASHES[0]}", *(f"{field},{each}" for each in HASHES[1:])]
    found = await read(tmp_path, table("Name,email_sha256", *rows))

    assert (found.ids, found.bad) == (IDS, [])
    assert time.process_time() - began_s < 2


@pytest.mark.parametrize("directories_only", [True, False], ids=["directory", "file too"])
async def test_zip_whose_name_is_not_in_the_encoding_that_it_says_is_refused_in_words(
    tmp_path: Path, directories_only: bool
) -> None:
    """https://github.com/python/cpython/issues/153426: UnicodeDecodeError, not BadZipFile."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("M\N{LATIN SMALL LETTER U WITH DIAERESIS}ller.csv", text_of(HASHES))
    utf8, cp1252 = b"M\xc3\xbcller.csv", b"M\xfc\xfcller.csv"
    head, _, directory = packed.getvalue().rpartition(utf8)
    if not directories_only:
        head = head.replace(utf8, cp1252)

    with pytest.raises(Stopped, match="a name that is no UTF-8: zip it") as stopped:
        await read(tmp_path, head + cp1252 + directory)

    assert "ller" not in stopped.value.detail
