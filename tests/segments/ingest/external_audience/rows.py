"""A customer's file, row by row, for tests."""

from collections.abc import Iterator
from typing import Any

from segments.ingest.external_audience.table import Table


def rows_of(table: Table) -> Iterator[tuple[Any, ...]]:
    """Yield a table's readable rows."""
    for piece in table.pieces():
        yield from zip(*piece, strict=True)
