"""
Reads rows of a few columns from a customer's file: CSV, JSON, Parquet, the first two also as `.gz`.

The first bytes of a file determine its format, not its name:

    PAR1                    Parquet
    1f 8b                   gzip; its content is examined likewise
    [                       JSON arrays of objects
    {                       JSON objects, one a line
    another kind of archive refused by name
    anything else           CSV, its first row the names of the columns; of `,` `;` tab and `|`,
                            the delimiter with which the required columns are found

Columns are found in any case (`segments.model.customer_columns`). Memory holds a block, a row, or,
for Parquet, a piece of a row group; oversized ones are refused, and inflation is bounded as it
proceeds.
"""

import io
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import IO, Any, cast

from isal import igzip, isal_zlib

from segments.files.chunks import READ_BYTES
from segments.ingest.csv_rows import CsvRows, is_blank
from segments.ingest.external_audience.json_objects import NamedTwice, elements, value_of
from segments.ingest.external_audience.parquet_rows import parquet_rows
from segments.ingest.external_audience.person import ABSENT
from segments.ingest.header import DELIMITERS, cells_of, is_header
from segments.ingest.lines import LineSplitter
from segments.ingest.text import text_blocks
from segments.ingest.unpack import BLOCK_BYTES, Allowance, refuse_other_kinds
from segments.model.customer_columns import column_key
from segments.model.stop_reason import Stopped, StopReason

MAX_ROW_BYTES = 1 << 20
_MAX_SHOWN = 20
_BLANKS = b" \t\r\n"
_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_DAMAGED = (EOFError, igzip.BadGzipFile, cast("type[Exception]", isal_zlib.error), zlib.error)

Piece = Sequence[Sequence[Any]]
"""Some rows, column by column."""


class Table:
    """A file, as its wanted columns, a piece at a time."""

    def __init__(
        self, raw: io.RawIOBase, size_bytes: int, required: Sequence[str], optional: Sequence[str]
    ) -> None:
        """
        `raw` is seekable. Without the `required` columns the file does not match its description.
        """
        self.bad = 0
        """Unreadable rows so far."""
        self.columns: tuple[str, ...] = ()
        """A piece's columns, in order; set when the first piece is read."""
        self._raw = raw
        self._size_bytes = size_bytes
        self._required = tuple(required)
        self._optional = tuple(optional)
        # The last JSON object's names, and each wanted column's name among these.
        self._names: tuple[str, ...] | None = None
        self._picked: list[str | None] = []

    def pieces(self) -> Iterator[Piece]:
        """
        Yield the readable rows, and count the others.

        Raises:
            Stopped: UNREADABLE_FILE or INFLATES_TOO_FAR.
        """
        head = self._raw.read(len(_PARQUET)) or b""
        self._raw.seek(0)
        try:
            if head == _PARQUET:
                yield from parquet_rows(self._raw, self._size_bytes, self._choose)
                return
            blocks = text_blocks(self._blocks(is_gzip=head.startswith(_GZIP)))
            first, blocks = _first_of(blocks)
            refuse_other_kinds(first)
            if first.startswith(b"["):
                yield from self._json_arrays(blocks)
            elif first.startswith(b"{"):
                yield from self._json_lines(blocks)
            else:
                yield from self._csv(blocks, self._delimiter(first))
        except _DAMAGED:
            raise _unreadable("a .gz that is damaged or cut short") from None

    def _blocks(self, *, is_gzip: bool) -> Iterator[bytes]:
        with io.BufferedReader(self._raw, READ_BYTES) as buffered:
            if is_gzip:
                yield from self._inflated(buffered)
                return
            while block := buffered.read(BLOCK_BYTES):
                yield block

    def _inflated(self, buffered: IO[bytes]) -> Iterator[bytes]:
        plain = cast("IO[bytes]", igzip.open(buffered, "rb"))  # type: ignore[no-untyped-call]
        allowance = Allowance(self._size_bytes)
        while block := plain.read(BLOCK_BYTES):
            allowance.take(block)
            yield block

    def _places(self, wanted: Sequence[str], names: Sequence[str]) -> list[int | None]:
        keys = [column_key(name) for name in names]
        places: list[int | None] = []
        for key in map(column_key, wanted):
            found = [at for at, other in enumerate(keys) if other == key]
            if len(found) > 1:
                one, other, *_ = (names[at].strip() for at in found)
                if one == other:
                    raise _unreadable(f"it has column {one} twice")
                raise _unreadable(f"it has columns {one} and {other}, the same but for case")
            places.append(found[0] if found else None)
        return places

    def _choose(self, names: Sequence[str]) -> list[int]:
        wanted = [*self._required, *self._optional]
        column_to_place = {
            column: place
            for column, place in zip(wanted, self._places(wanted, names), strict=True)
            if place is not None
        }
        for column in self._required:
            if column not in column_to_place:
                raise _unreadable(f"it has no column {column}; {_columns_found(names)}")
        self.columns = tuple(column_to_place)
        return list(column_to_place.values())

    def _delimiter(self, first: bytes) -> str:
        line = first.partition(b"\n")[0].decode(errors="replace")
        required = {column_key(column) for column in self._required}
        for delimiter in DELIMITERS:
            if required <= {column_key(name) for name in cells_of(line, delimiter)}:
                return delimiter
        return DELIMITERS[0]

    def _csv(self, blocks: Iterator[bytes], delimiter: str) -> Iterator[Piece]:
        table = CsvRows(delimiter)
        header: list[str] | None = None
        places: list[int] = []
        for rows in map(table.cells, self._lines(blocks, table)):
            if header is None and rows:
                header = rows[0]
                if header is None:
                    raise _unreadable("its first line is no row of column names")
                places = self._choose(header)
            if header is not None and (whole := self._whole(rows, header, max(places))):
                yield [[cells[place] for cells in whole] for place in places]
        table.finish()

    def _whole(
        self, rows: Sequence[list[str] | None], header: list[str], last: int
    ) -> list[list[str]]:
        """Return the rows with all columns up to `last`, without a shard's header."""
        whole = [cells for cells in rows if cells and len(cells) > last and cells != header]
        if len(whole) < len(rows):
            self.bad += sum(
                cells is None or (len(cells) <= last and not is_blank(cells)) for cells in rows
            )
        return whole if last else [cells for cells in whole if not is_blank(cells)]

    def _json_lines(self, blocks: Iterator[bytes]) -> Iterator[Piece]:
        for lines in self._lines(blocks):
            values: list[Any] = []
            for line in lines:
                if line.isspace():
                    continue
                try:
                    value = value_of(line)
                except (ValueError, RecursionError):
                    value = None
                values += value if isinstance(value, list) else [value]
            yield from self._of_values(values)

    def _json_arrays(self, blocks: Iterator[bytes]) -> Iterator[Piece]:
        return chain.from_iterable(map(self._of_values, elements(blocks, MAX_ROW_BYTES)))

    def _of_values(self, values: Sequence[Any]) -> Iterator[Piece]:
        self.columns = (*self._required, *self._optional)
        objects = [value for value in values if isinstance(value, dict)]
        self.bad += len(values) - len(objects)
        if objects:
            yield list(zip(*map(self._of_object, objects), strict=True))

    def _of_object(self, value: dict[str, Any]) -> list[Any]:
        if isinstance(value, NamedTwice):
            self._places([*self._required, *self._optional], value.names)
        names = tuple(value)
        if names != self._names:
            # Mostly the same from object to object.
            wanted = [*self._required, *self._optional]
            places = self._places(wanted, names)
            self._names = names
            self._picked = [None if place is None else names[place] for place in places]
        count = len(self._required)
        required = [None if name is None else value[name] for name in self._picked[:count]]
        optional = [ABSENT if name is None else value[name] for name in self._picked[count:]]
        return required + optional

    def _lines(self, blocks: Iterator[bytes], table: CsvRows | None = None) -> Iterator[list[str]]:
        """Yield lists of lines with their ends; skip and count overlong lines."""
        splitter = LineSplitter(MAX_ROW_BYTES)
        for cut in chain(map(splitter.feed, blocks), map(LineSplitter.finish, [splitter])):
            if cut.is_behind_long_line:
                self.bad += 1
                if table is not None:
                    table.skip_line()
            if cut.lines:
                text = cut.lines.decode(errors="surrogateescape")
                yield io.StringIO(text, newline="\n").readlines()


def _columns_found(names: Sequence[str]) -> str:
    """List a file's columns, without names that may be values of a file without a header."""
    shown = [name.strip() for name in names if is_header(name.strip().encode(errors="replace"))]
    others = len(names) - len(shown)
    said = ", ".join(shown[:_MAX_SHOWN]) + (", ..." if len(shown) > _MAX_SHOWN else "")
    if not others:
        return f"its columns are {said}"
    unlike = f"{others} of its first row that are no names of columns"
    return f"its columns are {said}, and {unlike}" if said else f"it has {unlike}"


def _first_of(blocks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first block without leading blanks, and all blocks from there."""
    first = next(blocks, b"").lstrip(_BLANKS)

    def again() -> Iterator[bytes]:
        yield first
        yield from blocks

    return first, again()


def _unreadable(detail: str) -> Stopped:
    return Stopped(StopReason.UNREADABLE_FILE, detail)
