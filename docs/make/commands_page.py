"""
`docs/commands.md` from the commands' own help.

`rtb-segments`, `python -m loadtest`, and the targets of the Makefile.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from loadtest.__main__ import main as loadtest
from segments.cli import main as rtb_segments

_INTRO = """\
# Commands

<!-- Written by `make docs` from the commands' help; edit the docstrings there. -->

Targets of the Makefile, and two commands of the virtual environment that it makes. The latter
two explain themselves with `--help`, too.
"""

ROOTS: tuple[tuple[str, click.Group], ...] = (
    ("rtb-segments", rtb_segments),
    ("python -m loadtest", loadtest),
)

_TARGET = re.compile(r"^([a-z-]+):.*## (.+)$", re.MULTILINE)


def commands_page(makefile: Path) -> str:
    """Return the page."""
    parts = [_INTRO, "## make\n"]
    rows = [f"| `make {name}` | {text} |" for name, text in targets(makefile)]
    parts.append("\n".join(["| target | does |", "| --- | --- |", *rows]) + "\n")
    for name, root in ROOTS:
        parts.append(f"## {name}\n")
        parts.append(f"{_paragraphs(root.help)}\n")
        parts.extend(_command(context) for context in walk(root, name))
    return "\n".join(parts)


def targets(makefile: Path) -> list[tuple[str, str]]:
    """Return the Makefile's targets that are for people, each with its help."""
    return _TARGET.findall(makefile.read_text(encoding="utf-8"))


def walk(command: click.Command, name: str) -> Iterator[click.Context]:
    """Yield every command below one, groups left out, each in a context that knows its path."""
    root = click.Context(command, info_name=name)
    yield from _below(root)


def _below(context: click.Context) -> Iterator[click.Context]:
    if not isinstance(context.command, click.Group):
        yield context
        return
    for name in context.command.list_commands(context):
        command = context.command.get_command(context, name)
        assert command is not None, "a listed command exists"
        yield from _below(click.Context(command, info_name=name, parent=context))


def _command(context: click.Context) -> str:
    usage = " ".join([context.command_path, *context.command.collect_usage_pieces(context)])
    parts = [f"### `{usage}`\n", f"{_paragraphs(context.command.help)}\n"]
    rows = [
        f"| `{record[0]}` | {_cell(record[1])} |"
        for param in context.command.params
        if isinstance(param, click.Option)
        and (record := param.get_help_record(context)) is not None
    ]
    if rows:
        parts.append("\n".join(["| option | meaning |", "| --- | --- |", *rows]) + "\n")
    return "\n".join(parts)


def _paragraphs(text: str | None) -> str:
    return "\n\n".join(" ".join(each.split()) for each in (text or "").strip().split("\n\n"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
