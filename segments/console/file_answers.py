"""
Answers that a browser saves as a file.

Spreadsheets run a CSV cell that looks like a formula, so such a cell gets an apostrophe.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from aiohttp import web

MAX_ROWS = 10_000
"""Of a list; the file's name says if there are more."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Cell = str | int | None


def csv_of(
    name: str, head: Sequence[str], rows: Iterable[Iterable[Cell]], *, is_cut: bool
) -> web.Response:
    """Answer with rows as `NAME.csv`; `is_cut`: there are more than these `MAX_ROWS`."""
    written = io.StringIO()
    writer = csv.writer(written)  # RFC 4180: CRLF
    writer.writerow(head)
    for row in rows:
        writer.writerow([_cell(each) for each in row])
    name = f"{name}-first-{MAX_ROWS}" if is_cut else name
    return file_of(f"{name}.csv", written.getvalue().encode(errors="replace"), "text/csv")


def time_of(at_s: float) -> str:
    """Return a time in ISO 8601, to the second."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def file_of(name: str, body: bytes, media_type: str) -> web.Response:
    """Answer with a file; its name is our own, or a checked word."""
    return web.Response(
        body=body,
        content_type=media_type,
        charset="utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _cell(value: Cell) -> Cell:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
