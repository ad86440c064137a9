"""
The commands that our code sends to the store, found in the code: the source of every least ACL.

    a method of a client         redis.hget(...)                       HGET
    a command by its name        server.execute(b"CONFIG", b"GET")     CONFIG GET
    a command made beforehand    (b"INFO", b"server")                  INFO
    a script                     redis.call('TIME') in Lua             TIME

The writers send any of those in `segments`. The bid listener imports a part of `segments.store`,
so its commands are those of `rtb` and of every definition that `rtb` names, directly or not.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from redis.commands.core import AsyncCoreCommands

ROOT: Final = Path(__file__).parents[2]

_CLIENTS: Final = frozenset({"redis", "_redis", "pipeline", "pipe", "client", "changes"})
"""Names that our code gives to clients, their pipelines and their subscriptions."""

_SENDERS: Final = frozenset(
    {"PipelineCommand", "_is_forbidden", "execute", "execute_command", "send_command"}
)
_NAME: Final = re.compile(r"[A-Z]{3,16}( [A-Z]{3,16})?")
_IN_LUA: Final = re.compile(r"redis\.p?call\('(OBJECT', '[A-Z]+|[A-Z]+)'")
_CONTAINERS: Final = frozenset({"CLIENT", "CLUSTER", "CONFIG", "SCRIPT"})
_METHODS: Final = {
    "delete": "DEL",
    "scan_iter": "SCAN",
    "script_load": "SCRIPT LOAD",
    "config_get": "CONFIG GET",
    "config_set": "CONFIG SET",
}
"""Of redis-py, where the command has another name."""

_OF_NO_ACL: Final = frozenset({"AUTH", "HELLO"})
"""Any user may send these."""

_BY_REDIS_PY: Final = frozenset({"PING", "SELECT"})
"""After a pause on a connection, and for a database other than 0 in the URL."""

_IN_CLUSTER_BY_REDIS_PY: Final = frozenset({"CLUSTER SLOTS", "COMMAND"})
_OF_CLUSTERS: Final = frozenset(
    {"ASKING", "CLUSTER INFO", "CLUSTER SHARDS", "READONLY", "WAIT"} | _IN_CLUSTER_BY_REDIS_PY
)

_DONE_WITHOUT: Final = frozenset({"CONFIG GET", "CONFIG SET"})
"""Managed stores forbid it: the loader then finds by trying how hashes are packed."""

_OF_OPTIONS: Final = (
    "rtb/lookup/near_cache/",
    "rtb/lookup/caching_lookup.py",
    "rtb/server/seen_recorder.py",
)
_TO_OPTIONS: Final = frozenset({"register_command", "_READONLY"})
"""Names by which other modules of `rtb` reach what only options need."""

_METHODS_OF_CLIENTS: Final = frozenset({"_Pipeline"})
"""Of `rtb`, which names clients: their methods are commands where they are called."""

_OWN_SERVER: Final = ("segments/store/embedded.py",)
"""Asks a server that has no users."""

_LIBRARY: Final = frozenset(name for name in dir(AsyncCoreCommands) if name[0] != "_")
_KNOWN: Final = frozenset(
    {name.upper() for name in _LIBRARY} | {"ASKING", "DEL", "EXEC", "MULTI"} | _CONTAINERS
)
_SUBSCRIPTIONS: Final = frozenset({"subscribe", "unsubscribe"})


@dataclass(frozen=True)
class Commands:
    """The commands of one user, by the reason for which it needs them."""

    always: frozenset[str]
    in_cluster: frozenset[str] = field(default_factory=frozenset)
    """In a Redis Cluster as well."""
    by_options: frozenset[str] = field(default_factory=frozenset)
    """With settings that make the bid listener write."""


@cache
def of_writers() -> Commands:
    """Return the commands of every process but the bid listener."""
    found = set(_BY_REDIS_PY | _IN_CLUSTER_BY_REDIS_PY)
    for path in sorted((ROOT / "segments").rglob("*")):
        name = path.relative_to(ROOT).as_posix()
        if path.suffix == ".lua":
            found |= set(_called_in(path.read_text(encoding="utf-8")))
        elif path.suffix == ".py" and name not in _OWN_SERVER:
            found |= set(_sent_in(_tree(path)))
    found -= _OF_NO_ACL | _DONE_WITHOUT
    return Commands(frozenset(found - _OF_CLUSTERS), frozenset(found & _OF_CLUSTERS))


@cache
def of_bids() -> Commands:
    """Return the bid listener's commands."""
    files = sorted((ROOT / "rtb").rglob("*.py"))
    plain = [path for path in files if not _is_of_options(path)]
    least = _reached(plain, _TO_OPTIONS) | _BY_REDIS_PY | _IN_CLUSTER_BY_REDIS_PY
    every = _reached(files, frozenset())
    return Commands(
        always=least - _OF_CLUSTERS - _OF_NO_ACL,
        in_cluster=least & _OF_CLUSTERS,
        by_options=every - least - _OF_NO_ACL,
    )


def _is_of_options(path: Path) -> bool:
    return path.relative_to(ROOT).as_posix().startswith(_OF_OPTIONS)


def _reached(files: list[Path], never: frozenset[str]) -> frozenset[str]:
    """Return the commands in some modules, and in all of `segments.store` that these name."""
    found: set[str] = set()
    todo: list[tuple[Path, ast.AST]] = [(path, _tree(path)) for path in files]
    done: set[tuple[Path, str]] = set()
    while todo:
        path, node = todo.pop()
        if isinstance(node, ast.Module):
            node = ast.Module([each for each in node.body if not _defines(each, never)], [])
        found |= set(_sent_in(node))
        for name in _names_in(node) - never - _METHODS_OF_CLIENTS:
            for target in _definitions(path, name):
                if target not in done:
                    done.add(target)
                    todo.append((target[0], _module(target[0])[target[1]]))
    return frozenset(found)


def _defines(node: ast.AST, names: frozenset[str]) -> bool:
    return bool(set(_targets(node)) & names)


def _names_in(node: ast.AST) -> set[str]:
    found = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    dotted = {
        f"{each.value.id}.{each.attr}"
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name)
    }
    return found | dotted


def _definitions(path: Path, name: str) -> Iterator[tuple[Path, str]]:
    """Yield where a name of a module is defined: there, or in the module that it comes from."""
    if name in _module(path) and not path.is_relative_to(ROOT / "rtb"):
        yield path, name
    imports = _imports(path)
    if name in imports:
        module, original = imports[name]
        source = _file_of(module)
        if source and original in _module(source):
            yield source, original
    prefix, _, member = name.partition(".")
    if member and prefix in imports:
        inner = _file_of(".".join(imports[prefix]))
        if inner and member in _module(inner):
            yield inner, member


@cache
def _imports(path: Path) -> dict[str, tuple[str, str]]:
    """Return the names that a module imports from `segments.store`: module and name there."""
    return {
        alias.asname or alias.name: (each.module, alias.name)
        for each in ast.walk(_tree(path))
        if isinstance(each, ast.ImportFrom) and (each.module or "").startswith("segments.store")
        for alias in each.names
        if each.module
    }


@cache
def _file_of(module: str) -> Path | None:
    path = ROOT / f"{module.replace('.', '/')}.py"
    return path if path.exists() else None


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _module(path: Path) -> dict[str, ast.AST]:
    """Return the definitions of a module by name."""
    return {name: node for node in _tree(path).body for name in _targets(node)}


def _targets(node: ast.AST) -> list[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.Assign():
            return [each.id for each in node.targets if isinstance(each, ast.Name)]
        case ast.AnnAssign(target=ast.Name() as target):
            return [target.id]
    return []


def _sent_in(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        match each:
            case ast.Call(func=ast.Attribute() as method) if _last(method.value) in _CLIENTS:
                if method.attr in _METHODS:
                    yield _METHODS[method.attr]
                elif method.attr in (_LIBRARY | _SUBSCRIPTIONS) - _SENDERS:
                    yield method.attr.upper()
        match each:
            case ast.Call(func=ast.Attribute(attr="pipeline")) if _is_atomic(each):
                yield from ("EXEC", "MULTI")
            case ast.Call() if _last(each.func) in _SENDERS:
                yield from _named(each.args)
            case ast.Tuple():
                yield from _named(each.elts, only_bytes=True)
            case ast.Constant(value=str() | bytes() as text):
                words = text.decode("latin-1") if isinstance(text, bytes) else text
                yield from _called_in(words)
                if words.endswith(".lua") and "/" not in words:
                    script = ROOT / "segments/store/lua" / words
                    yield from _called_in(script.read_text(encoding="utf-8"))


def _is_atomic(pipeline: ast.Call) -> bool:
    return any(
        option.arg == "transaction"
        and not (isinstance(option.value, ast.Constant) and option.value.value is False)
        for option in pipeline.keywords
    )


def _called_in(lua: str) -> Iterator[str]:
    for words in _IN_LUA.findall(lua):
        yield words.replace("', '", " ")


def _named(words: list[ast.expr], *, only_bytes: bool = False) -> Iterator[str]:
    """Yield the command that some arguments begin with."""
    texts: list[str] = []
    for each in words[:3]:
        value = each.value if isinstance(each, ast.Constant) else None
        if isinstance(value, bytes):
            texts.append(value.decode("latin-1"))
        elif isinstance(value, str) and not only_bytes:
            texts.append(value)
        elif isinstance(value, int) and not texts:
            continue  # the number of a `PipelineCommand`
        else:
            break
    if not texts or not _NAME.fullmatch(texts[0]):
        return
    name, _, of_container = texts[0].partition(" ")
    if name in _CONTAINERS:
        of_container = of_container or " ".join(texts[1:2])
        if of_container not in _CONTAINERS:
            yield f"{name} {of_container}"
    elif name in _KNOWN:
        yield name


def _last(node: ast.AST) -> str:
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            return node.attr
    return ""
