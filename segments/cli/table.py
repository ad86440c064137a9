"""Lists: columns with a header on a terminal, tabs alone in a pipe, JSON where asked for."""

import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeVar

import click
import orjson

F = TypeVar("F", bound=Callable[..., Any])

_AS_JSON: Final = "segments.cli.table.as_json"
"""In the context's notes: whether to print the list as JSON."""


class Table(NamedTuple):
    """A list, for `print_table`."""

    headings: Sequence[str]
    rows: Sequence[Sequence[object]]


def json_option(command: F) -> F:
    """Give a command `--json`, which `print_table` heeds."""
    option = click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_note,
        help="Print the list as JSON.",
    )
    return option(command)


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], *, as_json: bool = False
) -> None:
    """
    Print rows: on a terminal in columns with headings, elsewhere with tabs only.

    `None` prints as `-`, so that every row has the same number of cells. In JSON a row is an
    object, its members named by the headings with `_` for a blank.
    """
    if as_json or click.get_current_context().meta.get(_AS_JSON):
        names = [heading.replace(" ", "_") for heading in headings]
        objects = [dict(zip(names, row, strict=True)) for row in rows]
        click.echo(orjson.dumps(objects, default=str, option=orjson.OPT_INDENT_2))
        return
    if sys.stdout.isatty():
        for line in table_lines(headings, rows):
            click.echo(line)
        return
    for row in _cells(rows):
        click.echo("\t".join(row))


def table_lines(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table for people: headings, and cells below each other."""
    table = [[heading.upper() for heading in headings], *_cells(rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]


def utc(at_s: float | None) -> str | None:
    """Return a time in ISO 8601, to the second."""
    if at_s is None:
        return None
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _note(ctx: click.Context, _: click.Parameter, as_json: bool) -> None:
    ctx.meta[_AS_JSON] = as_json


def _cells(rows: Iterable[Sequence[object]]) -> list[list[str]]:
    return [["-" if cell is None else str(cell) for cell in row] for row in rows]
