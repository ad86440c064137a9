"""
Reads rows of a few columns from a customer's Parquet file, bounded by content, not by file size.

A few bytes of a nested column may unfold to a gigabyte; so may a long text that a dictionary
repeats in every row, and a page of zeros. The schema refuses nested columns. Texts stay in their
dictionary, if pyarrow can leave them there, and rows share them. All pages of a row group are
checked first: an oversized page is refused, and a read has as many rows as fit into some megabytes
at the greatest length that the pages allow. All rows together may be as large as those of a `.gz`
(`segments.ingest.unpack`), where a shared text counts in each row.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

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
_INDEX_BYTES = 4  # into a dictionary
_ROW_BYTES = 16
"""The size of a row besides its values, which may be absent."""

_TAIL_BYTES = 8  # the footer's length, and PAR1


def parquet_rows(
    raw: io.RawIOBase, size_bytes: int, choose: Callable[[Sequence[str]], Sequence[int]]
) -> Iterator[Sequence[Sequence[Any]]]:
    """
    Yield the rows of a file in pieces, column by column.

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
        opened = partial(
            parquet.ParquetFile,
            raw,
            buffer_size=BLOCK_BYTES,
            pre_buffer=False,
            thrift_string_size_limit=MAX_FOOTER_BYTES,
            thrift_container_size_limit=MAX_FOOTER_BYTES,
        )
        file = opened()
        names = file.schema_arrow.names
        chosen = [names[place] for place in choose(names)]
        types = {name: file.schema_arrow.field(name).type for name in chosen}
        _check_types(types)
        schema = file.metadata.schema
        paths = [schema.column(at).path for at in range(len(schema))]
        places = [at for at, path in enumerate(paths) if path in types]
        folded: list[str] = []
        for number, chunks in enumerate(chunks_of(footer, places)):
            named = {paths[at]: chunk for at, chunk in zip(places, chunks, strict=True)}
            group = _look(raw, named, number, types)
            if group.folded != folded:
                folded = group.folded
                file = opened(metadata=file.metadata, read_dictionary=folded)
            batches = file.iter_batches(group.rows_at_once, [number], chosen, use_threads=False)
            for batch in batches:
                allowance.take_bytes(batch.num_rows * _ROW_BYTES)
                yield [_values(batch.column(name), allowance) for name in chosen]
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


class _Group(NamedTuple):
    """A row group, by its pages."""

    rows_at_once: int
    folded: list[str]  # columns of texts to leave in dictionaries


def _look(
    raw: io.RawIOBase, chunks: Mapping[str, Chunk], number: int, types: Mapping[str, Any]
) -> _Group:
    """
    Look at the pages of a row group; the metadata may contradict them.

    Raises:
        Stopped: UNREADABLE_FILE: a page is too large.
        ThriftUnreadable: A page's header can't be read.
    """
    row_bytes = 0
    folded = []
    for name, chunk in chunks.items():
        texts = _texts_of(raw, chunk, f"column {name} of row group {number}")
        if not _is_text(types[name]):
            row_bytes += types[name].bit_width // 8
        elif texts.is_foldable:
            row_bytes += max(_INDEX_BYTES, texts.longest_bytes)
            folded.append(name)
        else:
            # A single value may fill the dictionary, and be repeated.
            row_bytes += max(texts.dictionary_bytes, texts.longest_bytes)
    return _Group(min(_ROWS_AT_ONCE, max(1, _BYTES_AT_ONCE // max(1, row_bytes))), folded)


class _Texts(NamedTuple):
    """The texts of a row group's column."""

    longest_bytes: int
    """The most outside a dictionary, on average over the rows of a read."""
    dictionary_bytes: int
    is_foldable: bool
    """Whether pyarrow can leave all of them in dictionaries."""


def _texts_of(raw: io.RawIOBase, chunk: Chunk, where: str) -> _Texts:
    longest_bytes = dictionary_bytes = 0
    is_foldable = True
    for page in pages_of(raw, chunk.start, chunk.end):
        most = MAX_DICTIONARY_BYTES if page.is_dictionary else MAX_PAGE_BYTES
        if page.size_bytes > most:
            raise _unreadable(
                f"{where} has a page of {page.size_bytes} bytes, and {most} are the most:"
                " write smaller pages"
            )
        if page.is_dictionary:
            dictionary_bytes = page.size_bytes
        elif not page.is_by_dictionary:
            is_foldable &= page.is_plain
            values = 1 if page.may_repeat else max(1, page.values)
            longest_bytes = max(longest_bytes, page.size_bytes // values)
    return _Texts(longest_bytes, dictionary_bytes, is_foldable)


def _is_text(kind: Any) -> bool:
    """Tell whether values have lengths of their own: texts and bytes, also of a dictionary."""
    import pyarrow as pa  # noqa: PLC0415 - as above

    if pa.types.is_dictionary(kind):
        return True
    try:
        return kind.bit_width is None
    except ValueError:
        return True


def _values(column: Any, allowance: Allowance) -> list[Any]:
    import pyarrow as pa  # noqa: PLC0415 - as above
    from pyarrow import compute as pc  # noqa: PLC0415

    if not pa.types.is_dictionary(column.type):
        allowance.take_bytes(column.nbytes)
        plain: list[Any] = _plain(column).to_pylist()
        return plain
    places, counts = column.indices.value_counts().flatten()
    taken = column.dictionary.take(places)
    unfolded = pc.sum(pc.multiply(pc.binary_length(taken), counts), min_count=0)
    allowance.take_bytes(column.indices.nbytes + unfolded.as_py())
    place_to_value = dict(zip(places.to_pylist(), _plain(taken).to_pylist(), strict=True))
    return [place_to_value[place] for place in column.indices.to_pylist()]


def _plain(column: Any) -> Any:
    """Return a column of times as text: Python's types lack their range, and nanoseconds."""
    import pyarrow as pa  # noqa: PLC0415 - as above

    kind = column.type
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp(kind.unit)).cast(pa.string())
    return column.cast(pa.string()) if pa.types.is_temporal(kind) else column


def _unreadable(detail: str) -> Stopped:
    return Stopped(StopReason.UNREADABLE_FILE, detail)
