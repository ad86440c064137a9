"""
Reads the places of columns from a Parquet file's footer.

Asked for the metadata of a column in an inconsistent footer, pyarrow terminates the process
(`std::terminate`); reading the same column, it raises. So this module parses the footer:
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from segments.ingest.external_audience.thrift import ThriftUnreadable, structure

_ROW_GROUPS, _COLUMNS, _META_DATA = 4, 1, 3
_PACKED_BYTES, _DATA_AT, _DICTIONARY_AT = 7, 9, 11


class Chunk(NamedTuple):
    """The place of a column's pages in a row group."""

    start: int
    end: int


def chunks_of(footer: bytes, places: Sequence[int]) -> list[list[Chunk]]:
    """
    Return the chunks of some columns, numbered from 0 as the schema's leaves, in each row group.

    Raises:
        ThriftUnreadable: The footer can't be read, or lacks such a column.
    """
    fields, _ = structure(footer)
    return [
        [_chunk(_at(_list(group, _COLUMNS), place)) for place in places]
        for group in _list(fields, _ROW_GROUPS)
    ]


def _chunk(column: Any) -> Chunk:
    said = column.get(_META_DATA) if isinstance(column, dict) else None
    if not isinstance(said, dict):
        raise ThriftUnreadable
    packed_bytes, data_at, dictionary_at = (
        said.get(number, 0) for number in (_PACKED_BYTES, _DATA_AT, _DICTIONARY_AT)
    )
    starts = [at for at in (data_at, dictionary_at) if isinstance(at, int) and at]
    if not starts or min(starts) < 0 or not isinstance(packed_bytes, int):
        raise ThriftUnreadable
    return Chunk(min(starts), min(starts) + packed_bytes)


def _list(fields: Any, number: int) -> list[Any]:
    found = fields.get(number) if isinstance(fields, dict) else None
    if not isinstance(found, list):
        raise ThriftUnreadable
    return found


def _at(values: list[Any], place: int) -> Any:
    if place >= len(values):
        raise ThriftUnreadable
    return values[place]
