"""
Which process reads which setting of the control plane, found in the code of the composition roots.

A process's function reads `settings.NAME`, hands `settings` to other functions, whose reads are its
own, and asks for options, which are properties of the settings class over its fields.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from segments.runtime.settings_errors import names_of
from segments.settings import Settings

ROOT: Final = Path(__file__).parents[2]

PROCESSES: Final[Mapping[str, str]] = {
    "loader": "segments.cli.ingest",
    "api": "segments.cli.api",
    "sftp": "segments.cli.sftp",
    "console": "segments.cli.console",
    "publish": "segments.cli.publish",
    "up": "segments.cli.processes",
}
"""
Process -> the module with its command, a function of this name. `up` starts the others, which read
theirs by themselves.
"""

_OF_ALL: Final = ("segments.cli.control_settings", "control_settings")
"""Module and function with the reads of every command."""

_CLASSES: Final = ("segments.settings", "segments.runtime.operator_settings")


@cache
def fields_read_by(process: str) -> frozenset[str]:
    """Return the fields of the settings class that a process reads."""
    found: set[str] = set()
    done: set[tuple[str, str]] = set()
    todo = [(PROCESSES[process], process), _OF_ALL]
    while todo:
        module, name = todo.pop()
        if (module, name) in done or name not in _definitions(module):
            continue
        done.add((module, name))
        node = _definitions(module)[name]
        for attribute in _attributes_of(node, "settings", "_settings"):
            found |= _fields(attribute)
        imported = _imports(module)
        todo += [imported.get(called, (module, called)) for called in _handed_settings(node)]
    return frozenset(found)


def readers_table() -> str:
    """Return the table of the page: each setting with the processes that read it."""
    lines = ["| setting | read by |", "| --- | --- |"]
    for field in Settings.model_fields:
        readers = [each for each in PROCESSES if field in fields_read_by(each)]
        said = ", ".join(f"`{each}`" for each in readers) or "other commands"
        lines.append(f"| `{names_of(Settings, field)[0]}` | {said} |")
    return "\n".join(lines) + "\n"


@cache
def _fields(attribute: str) -> frozenset[str]:
    """Return the fields behind an attribute of the settings: itself, or those of a property."""
    if attribute in Settings.model_fields:
        return frozenset((attribute,))
    found: set[str] = set()
    for module in _CLASSES:
        for node in ast.walk(_tree(module)):
            if isinstance(node, ast.FunctionDef) and node.name == attribute:
                for other in _attributes_of(node, "self"):
                    found |= _fields(other)
    return frozenset(found)


def _attributes_of(node: ast.AST, *names: str) -> Iterator[str]:
    for each in ast.walk(node):
        match each:
            case ast.Attribute(value=ast.Name(id=name) | ast.Attribute(attr=name), attr=attribute):
                if name in names:
                    yield attribute


def _handed_settings(node: ast.AST) -> Iterator[str]:
    """Yield the functions and classes that get the settings as a whole."""
    for each in ast.walk(node):
        if not isinstance(each, ast.Call):
            continue
        given = [*each.args, *(keyword.value for keyword in each.keywords)]
        if any(isinstance(value, ast.Name) and value.id == "settings" for value in given):
            names = [each.func, *given]
            yield from (name.id for name in names if isinstance(name, ast.Name))


@cache
def _imports(module: str) -> dict[str, tuple[str, str]]:
    return {
        alias.asname or alias.name: (each.module, alias.name)
        for each in ast.walk(_tree(module))
        if isinstance(each, ast.ImportFrom) and (each.module or "").startswith("segments")
        for alias in each.names
        if each.module
    }


@cache
def _definitions(module: str) -> dict[str, ast.AST]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name: node for node in _tree(module).body if isinstance(node, kinds)}


@cache
def _tree(module: str) -> ast.Module:
    path = ROOT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))
