"""
`docs/settings.md` from the settings classes, and the names alone as a module for both planes.

Names, defaults and limits come from the fields, meanings from the docstrings below them.
A field without a docstring is an error: a setting that is not explained is not finished.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from textwrap import dedent
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from docs.make.settings_readers import readers_table
from rtb.id_rules import DEFAULT_RULES
from rtb.settings import RtbSettings
from segments.runtime.settings_errors import names_of, variables_of
from segments.settings import Settings

CLASSES: tuple[tuple[str, type[BaseSettings]], ...] = (
    ("The bid listener", RtbSettings),
    ("The control plane", Settings),
)

_INTRO = """\
# Settings

<!-- Written by `make docs` from the settings classes; edit the docstrings there. -->

Environment variables, or lines of a `.env` file, read once when a process starts. A wrong
setting stops the process before it has done anything, with a line that names the variable. An
empty variable counts as not set.

A variable with the prefix of a process, `RTB_` or `SEGMENTS_`, that is none of these stops it if it
is within three letters of one or has the same words in another form, and is said in a line if
not. A variable that ends in `_FILE`, beside one without, names a file that holds its value, such
as a secret of Kubernetes or Docker. Passed over: variables that a base connection names by `env:`,
and those by which Kubernetes tells of Services, such as `RTB_PORT=tcp://10.0.0.1:8080`.
"""

_READERS = """\
## Which process reads which

The bid listener, `serve`, reads all settings of the first table, and no other. A process of the
control plane reads those below; `up` starts them all, each with the environment of `up`.
"""

_NAMES = '''\
"""
Every variable that a process of ours reads, of both planes.

Written by `make docs` from the settings classes.
"""

from typing import Final

'''

_COMPARISONS = (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))


class Undocumented(Exception):
    """A field has no docstring; the message names it."""


def settings_page() -> str:
    """
    Return the page.

    Raises:
        Undocumented: A field has no docstring.
    """
    parts = [_INTRO]
    for title, settings in CLASSES:
        parts.append(f"## {title}\n\n`{settings.__module__}`\n")
        rows = ["| variable | default | meaning |", "| --- | --- | --- |", *rows_of(settings)]
        parts.append("\n".join(rows) + "\n")
    parts += [_READERS, readers_table()]
    return "\n".join(parts)


def setting_names() -> str:
    """Return the module of all names: neither plane may import the settings of the other."""
    names = sorted({name for _, settings in CLASSES for name in variables_of(settings)})
    lines = "".join(f'    "{name}",\n' for name in names)
    return f"{_NAMES}SETTING_NAMES: Final = (\n{lines})\n"


def rows_of(settings: type[BaseSettings]) -> Iterator[str]:
    """
    Yield the table's row of each field.

    Raises:
        Undocumented: A field has no docstring.
    """
    meanings = _docstrings(settings)
    for field_name, field in settings.model_fields.items():
        first, *others = names_of(settings, field_name)
        if field_name not in meanings:
            raise Undocumented(f"{settings.__name__}.{field_name} has no docstring below it")
        names = f"`{first}`" + "".join(f", `{other}`" for other in others)
        meaning = " ".join(filter(None, (meanings[field_name], _limits(field))))
        yield f"| {names} | {_default(field)} | {meaning} |".replace("||", "\\|\\|")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be set"
    value = field.get_default(call_default_factory=True)
    if value == DEFAULT_RULES:
        return "[the table of ids](bid-path.md#ids)"
    return "none" if value is None or value == () else f"`{_text(value)}`"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, tuple | list | frozenset | set):
        return ",".join(map(_text, value))
    return str(Path(value)) if isinstance(value, Path) else str(value)


def _limits(field: FieldInfo) -> str:
    said = [
        f"{word} {_text(limit)}"
        for name, word in _COMPARISONS
        for each in field.metadata
        if (limit := getattr(each, name, None)) is not None
    ]
    return f"({', '.join(said)})" if said else ""


def _docstrings(settings: type[BaseSettings]) -> dict[str, str]:
    """Return the text below each field, base classes of ours included."""
    found: dict[str, str] = {}
    for each in reversed(settings.__mro__):
        if not issubclass(each, BaseSettings) or each is BaseSettings:
            continue
        (body,) = ast.parse(dedent(inspect.getsource(each))).body
        assert isinstance(body, ast.ClassDef), "the source of a class is a class"
        for field, below in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                found[field.target.id] = re.sub(r"\s+", " ", below.value.value).strip()
    return found
