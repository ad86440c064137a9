"""
The pages of a Parquet file's column, by their own headers.

Readers do not check the sizes in a footer, but unpack each page to the size in its header, so
the headers tell the cost of reading. Their format:
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
"""

import io
from collections.abc import Iterator
from typing import NamedTuple

from segments.ingest.external_audience.thrift import ThriftUnreadable, structure

HEADER_BYTES = 16 << 10
"""To read for a page's header; a header with longer statistics is unreadable."""

_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_HEADER_FIELD = {_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}
_ENCODING_FIELD = {_DATA: 2, _DICTIONARY: 2, _DATA_V2: 4}
_PLAIN = 0
_BY_DICTIONARY = (2, 8)  # PLAIN_DICTIONARY, RLE_DICTIONARY
_DELTA_BYTE_ARRAY = 7


class Page(NamedTuple):
    """A page of a column."""

    size_bytes: int  # unpacked
    values: int
    is_dictionary: bool
    encoding: int

    @property
    def is_plain(self) -> bool:
        """Whether values stand by themselves, one after another."""
        return self.encoding == _PLAIN

    @property
    def is_by_dictionary(self) -> bool:
        """Whether values are indices into the dictionary page."""
        return not self.is_dictionary and self.encoding in _BY_DICTIONARY

    @property
    def may_repeat(self) -> bool:
        """Whether a value may be encoded as a prefix of its predecessor."""
        return self.encoding == _DELTA_BYTE_ARRAY


def pages_of(raw: io.RawIOBase, start: int, end: int) -> Iterator[Page]:
    """
    Yield the pages between two places of a file.

    Raises:
        ThriftUnreadable: A header can't be read, or is impossible.
    """
    at = start
    while at < end:
        raw.seek(at)
        head = raw.read(min(HEADER_BYTES, end - at)) or b""
        fields, length = structure(head)
        kind, size_bytes, packed_bytes = (fields.get(number) for number in (1, 2, 3))
        if not (
            isinstance(kind, int) and isinstance(size_bytes, int) and isinstance(packed_bytes, int)
        ):
            raise ThriftUnreadable
        at += length + packed_bytes
        if size_bytes < 0 or packed_bytes < 0 or at > end:
            raise ThriftUnreadable
        if kind not in _HEADER_FIELD:
            continue  # an index, which no reader needs
        said = fields.get(_HEADER_FIELD[kind])
        if not isinstance(said, dict):
            raise ThriftUnreadable
        values, encoding = said.get(1), said.get(_ENCODING_FIELD[kind])
        if not (isinstance(values, int) and isinstance(encoding, int)) or values < 0:
            raise ThriftUnreadable
        yield Page(size_bytes, values, kind == _DICTIONARY, encoding)
