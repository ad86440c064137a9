"""
Reads rows of a few columns from a customer's Parquet file, bounded by content, not by file size.

A few bytes of a nested column may unfold to a gigabyte; so may a long text that a dictionary
repeats in every row, and a page of zeros. The schema refuses nested columns. All pages of a row
group are checked first: an oversized page is refused, and a read has as many rows as fit into some
megabytes at the greatest length that the pages allow. All rows together may be as large as those of
a `.gz` (`segments.ingest.unpack`).
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from segments.ingest.external_audience.parquet_footer import Chunk, chunks_of
from segments.ingest.external_audience.parquet_pages import pages_of
from segments.ingest.external_audience.thrift import ThriftUnreadable
from segments.ingest.unpack import BLOCK_BYTES, Allowance
from segments.model.stop_reason import Stopped, StopReason

MAX_PAGE_BYTES = 64 << 20
"""The limit of a page of values, unpacked: writers put a row group in a page, or 1 MB."""

MAX_DICTIONARY_BYTES = 16 << 20
"""The limit of a dictionary page, which is in memory several times."""

MAX_FOOTER_BYTES = 8 << 20
"""Parsed, it takes ten times as much: 25,000 columns, or twice as many row groups."""

_ROWS_AT_ONCE = 16_384
_BYTES_AT_ONCE = 32 << 20
_ROW_BYTES = 16
"""The size of a row besides its values, which may be absent."""

_TAIL_BYTES = 8  # the footer's length, and PAR1


def parquet_rows(
    raw: io.RawIOBase, size_bytes: int, choose: Callable[[Sequence[str]], Sequence[int]]
) -> Iterator[Sequence[Any]]:
    """
    Yield the rows of a file.

    `raw` is seekable; `choose` returns the indices of the wanted columns among the file's names.

    Raises:
        Stopped: UNREADABLE_FILE or INFLATES_TOO_FAR.
    """
    try:
        # Imported here: it takes half a second and 40 MB, which only Parquet files need.
        import pyarrow as pa  # noqa: PLC0415
        from pyarrow import parquet  # noqa: PLC0415
    except ModuleNotFoundError:
        raise _unreadable(
            "a Parquet file, and no pyarrow is installed here: send CSV or JSON, or ask the"
            " operator for rtb-segments[parquet]"
        ) from None

    allowance = Allowance(size_bytes)
    try:
        footer = _footer(raw, size_bytes)
        file = parquet.ParquetFile(
            raw,
            buffer_size=BLOCK_BYTES,
            pre_buffer=False,
            thrift_string_size_limit=MAX_FOOTER_BYTES,
            thrift_container_size_limit=MAX_FOOTER_BYTES,
        )
        names = file.schema_arrow.names
        chosen = [names[place] for place in choose(names)]
        types = {name: file.schema_arrow.field(name).type for name in chosen}
        _check_types(types)
        schema = file.metadata.schema
        paths = [schema.column(at).path for at in range(len(schema))]
        places = [at for at, path in enumerate(paths) if path in types]
        for number, chunks in enumerate(chunks_of(footer, places)):
            named = {paths[at]: chunk for at, chunk in zip(places, chunks, strict=True)}
            rows_at_once = _rows_at_once(raw, named, number, types)
            batches = file.iter_batches(rows_at_once, [number], chosen, use_threads=False)
            for batch in batches:
                allowance.take_bytes(batch.num_rows * _ROW_BYTES)
                columns = [_values(batch.column(name), allowance) for name in chosen]
                yield from zip(*columns, strict=True)
    except (pa.ArrowException, OSError, OverflowError, ValueError, ThriftUnreadable):
        # pyarrow's message may quote a value.
        raise _unreadable("a Parquet file that can't be read") from None


def _footer(raw: io.RawIOBase, size_bytes: int) -> bytes:
    raw.seek(max(0, size_bytes - _TAIL_BYTES))
    footer_bytes = int.from_bytes((raw.read(_TAIL_BYTES) or b"")[:4], "little")
    if MAX_FOOTER_BYTES < footer_bytes < size_bytes:
        raise _unreadable(
            f"a Parquet file whose footer is larger than {MAX_FOOTER_BYTES} bytes: write fewer"
            " columns, or larger row groups"
        )
    raw.seek(max(0, size_bytes - _TAIL_BYTES - footer_bytes))
    footer = raw.read(min(footer_bytes, size_bytes)) or b""
    raw.seek(0)
    return footer


def _check_types(types: Mapping[str, Any]) -> None:
    import pyarrow as pa  # noqa: PLC0415 - as above

    for name, kind in types.items():
        if pa.types.is_nested(kind):
            raise _unreadable(f"column {name} has several values a row, and not one")


def _rows_at_once(
    raw: io.RawIOBase, chunks: Mapping[str, Chunk], number: int, types: Mapping[str, Any]
) -> int:
    """
    Return how many rows of a row group to read at a time.

    Raises:
        Stopped: UNREADABLE_FILE: a page is too large.
        ThriftUnreadable: A page's header can't be read.
    """
    row_bytes = 0
    for name, chunk in chunks.items():
        row_bytes += max(
            _longest_bytes(raw, chunk, f"column {name} of row group {number}"),
            _fixed_bytes(types[name]),
        )
    return min(_ROWS_AT_ONCE, max(1, _BYTES_AT_ONCE // max(1, row_bytes)))


def _longest_bytes(raw: io.RawIOBase, chunk: Chunk, where: str) -> int:
    """Return the most bytes that values can have, on average over the rows of a read."""
    longest_bytes = dictionary_bytes = 0
    for page in pages_of(raw, chunk.start, chunk.end):
        most = MAX_DICTIONARY_BYTES if page.is_dictionary else MAX_PAGE_BYTES
        if page.size_bytes > most:
            raise _unreadable(
                f"{where} has a page of {page.size_bytes} bytes, and {most} are the most:"
                " write smaller pages"
            )
        if page.is_dictionary:
            dictionary_bytes = page.size_bytes
        elif page.is_by_dictionary:
            # A single value may fill the dictionary, and be repeated.
            longest_bytes = max(longest_bytes, dictionary_bytes)
        elif page.may_repeat:
            longest_bytes = max(longest_bytes, page.size_bytes)
        else:
            longest_bytes = max(longest_bytes, page.size_bytes // max(1, page.values))
    return longest_bytes


def _fixed_bytes(kind: Any) -> int:
    import pyarrow as pa  # noqa: PLC0415 - as above

    return int(kind.byte_width) if pa.types.is_fixed_size_binary(kind) else 0


def _values(column: Any, allowance: Allowance) -> list[Any]:
    import pyarrow as pa  # noqa: PLC0415 - as above

    if not pa.types.is_dictionary(column.type):
        allowance.take_bytes(column.nbytes)
        plain: list[Any] = _plain(column).to_pylist()
        return plain
    used = column.indices.unique().drop_null()
    taken = column.dictionary.take(used)
    allowance.take_bytes(column.indices.nbytes + taken.nbytes)
    values = _plain(taken).to_pylist()
    place_to_value = dict(zip(used.to_pylist(), values, strict=True))
    return [
        None if place is None else place_to_value[place] for place in column.indices.to_pylist()
    ]


def _plain(column: Any) -> Any:
    """Return a column of times as text: Python's types lack their range, and nanoseconds."""
    import pyarrow as pa  # noqa: PLC0415 - as above

    kind = column.type
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp(kind.unit)).cast(pa.string())
    return column.cast(pa.string()) if pa.types.is_temporal(kind) else column


def _unreadable(detail: str) -> Stopped:
    return Stopped(StopReason.UNREADABLE_FILE, detail)
