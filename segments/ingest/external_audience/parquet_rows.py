"""
A customer's Parquet file to rows of a few columns, bounded by what it holds and not by its size.

Columns of lists, of structures and of maps can be no id, and a few bytes of them unfold to a
gigabyte; so can one long text that a dictionary repeats in every row. The first are refused by
the schema, before a value is read. Of the second, so few rows are read at a time that they are
no more than some megabytes, were each as long as all that the file says of its column.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from segments.ingest.unpack import BLOCK_BYTES
from segments.model.stop_reason import Stopped, StopReason

MAX_ROW_GROUP_BYTES = 512 << 20
"""Of the wanted columns alone, as the file says that they are."""

_ROWS_AT_ONCE = 16_384
_FEW_ROWS = 64
_BYTES_AT_ONCE = 32 << 20
_MAX_FOOTER_BYTES = 64 << 20


def parquet_rows(
    raw: io.RawIOBase, choose: Callable[[Sequence[str]], Sequence[int]]
) -> Iterator[Sequence[Any]]:
    """
    Yield the rows of a file.

    Args:
        raw: Open for reading, and seekable.
        choose: Returns which columns are wanted, by place, of the names that there are.

    Raises:
        Stopped: UNREADABLE_FILE.
    """
    # Half a second and forty megabytes, for those alone who bring Parquet.
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    try:
        file = parquet.ParquetFile(
            raw,
            buffer_size=BLOCK_BYTES,
            pre_buffer=False,
            thrift_string_size_limit=_MAX_FOOTER_BYTES,
        )
        names = file.schema_arrow.names
        chosen = [names[place] for place in choose(names)]
        types = {name: file.schema_arrow.field(name).type for name in chosen}
        _check_types(types)
        rows_at_once = _rows_at_once(file.metadata, types)
        for batch in file.iter_batches(rows_at_once, columns=chosen, use_threads=False):
            yield from zip(*(_values(batch.column(name)) for name in chosen), strict=True)
    except (pa.ArrowException, OSError, OverflowError, ValueError):
        # Its words may quote a value.
        raise _unreadable("a Parquet file that can't be read") from None


def _check_types(types: dict[str, Any]) -> None:
    import pyarrow as pa  # noqa: PLC0415 - as above

    for name, kind in types.items():
        if pa.types.is_nested(kind):
            raise _unreadable(f"column {name} has several values a row, and not one")


def _rows_at_once(metadata: Any, types: dict[str, Any]) -> int:
    """Return how many rows to read at a time, for their values not to be too many bytes."""
    rows = _ROWS_AT_ONCE
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        chunks = [group.column(at) for at in range(group.num_columns)]
        wanted = [chunk for chunk in chunks if chunk.path_in_schema in types]
        wanted_bytes = sum(chunk.total_uncompressed_size for chunk in wanted)
        if wanted_bytes > MAX_ROW_GROUP_BYTES:
            raise _unreadable(f"row group {number} is larger than {MAX_ROW_GROUP_BYTES} bytes")
        row_bytes = wanted_bytes // max(group.num_rows, 1)
        row_bytes += sum(_fixed_bytes(types[chunk.path_in_schema]) for chunk in wanted)
        rows = min(rows, max(1, _BYTES_AT_ONCE // max(row_bytes, 1)))
        for chunk in wanted:
            if _may_be_long(types[chunk.path_in_schema]):
                # A dictionary may repeat one value that is as long as all of it.
                longest_bytes = max(chunk.total_uncompressed_size, 1)
                rows = min(rows, max(_FEW_ROWS, _BYTES_AT_ONCE // longest_bytes))
    return rows


def _fixed_bytes(kind: Any) -> int:
    import pyarrow as pa  # noqa: PLC0415 - as above

    return int(kind.byte_width) if pa.types.is_fixed_size_binary(kind) else 0


def _may_be_long(kind: Any) -> bool:
    import pyarrow as pa  # noqa: PLC0415 - as above

    # A dictionary stays one as it is read, and a number is short.
    return not (pa.types.is_dictionary(kind) or pa.types.is_primitive(kind))


def _values(column: Any) -> list[Any]:
    import pyarrow as pa  # noqa: PLC0415 - as above

    if not pa.types.is_dictionary(column.type):
        plain: list[Any] = _plain(column).to_pylist()
        return plain
    used = column.indices.unique().drop_null()
    values = _plain(column.dictionary.take(used)).to_pylist()
    place_to_value = dict(zip(used.to_pylist(), values, strict=True))
    return [
        None if place is None else place_to_value[place] for place in column.indices.to_pylist()
    ]


def _plain(column: Any) -> Any:
    """Return a column of times as text: Python's own have neither their range nor nanoseconds."""
    import pyarrow as pa  # noqa: PLC0415 - as above

    kind = column.type
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp(kind.unit)).cast(pa.string())
    return column.cast(pa.string()) if pa.types.is_temporal(kind) else column


def _unreadable(detail: str) -> Stopped:
    return Stopped(StopReason.UNREADABLE_FILE, detail)
