"""
What REST doors are sent: each form of a body and of a query, of every operation that there is.

A form is filled, or a problem is raised that can be written and quotes no value. The first
byte of an input says which form; the forms are found by the doors' own operations, so a new
one is fuzzed without a word here.
"""

import json
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, NamedTuple, get_type_hints
from urllib.parse import parse_qsl

from pydantic import BaseModel

import segments.processes.rest_api  # noqa: F401 - imports all doors
from segments.doors.rest import door as door_module
from segments.doors.rest.door import Door
from segments.doors.rest.problem import Problem, problem_document
from segments.doors.rest.read_form import read_json, read_text
from tests.fuzz.forms import json_splice
from tests.fuzz.target import Check, Mutation, Target

_CANARY = "somebody.secret@example.com"
_MOST_DEPTH = 6


class _Form(NamedTuple):
    operation: str
    model: type[BaseModel]
    is_query: bool


def _doors(cls: type[Door]) -> Iterator[type[Door]]:
    for heir in cls.__subclasses__():
        yield heir
        yield from _doors(heir)


def _forms() -> list[_Form]:
    found = {}
    for door in _doors(Door):
        if door.__module__.startswith("segments."):
            for name, method in vars(door).items():
                if hasattr(method, door_module._SPEC):
                    hints = get_type_hints(method)
                    for where in {"body", "query"} & hints.keys():
                        form = _Form(f"{door.__name__}.{name}", hints[where], where == "query")
                        found[form.operation, where] = form
    return [found[key] for key in sorted(found)]


_FORMS = _forms()


@contextmanager
def _checking() -> Iterator[Check]:
    def check(data: bytes) -> Hashable:
        if not data:
            return None
        form = _FORMS[data[0] % len(_FORMS)]
        raw = data[1:]
        try:
            if form.is_query:
                said = dict(parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True))
                filled = read_text(form.model, "query", said)
            else:
                filled = read_json(form.model, raw)
        except Problem as problem:
            return form.operation, _is_well_told(problem)
        filled.model_dump_json(by_alias=True)
        return form.operation, "filled"

    yield check


def _is_well_told(problem: Problem) -> str:
    written = problem_document(problem).body
    assert isinstance(written, bytes)
    document = json.loads(written)
    assert problem.status == 400, "a body is the sender's fault"
    assert document["detail"], "a problem without a word"
    # A place is told by names, which the sender may choose; the words are ours.
    said = [error["detail"] for error in document.get("errors", ())] or [document["detail"]]
    assert not any(_CANARY in words for words in said), "a problem's words quote a value"
    return str(len(document.get("errors", ())))[:1]


def _example(schema: dict[str, Any], defs: dict[str, Any], depth: int = 0) -> Any:
    """Return something that a JSON schema allows, or nearly; texts are the canary."""
    if "$ref" in schema:
        schema = defs[schema["$ref"].rsplit("/", 1)[1]]
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return _example(schema[several][0], defs, depth)
    match schema.get("type"):
        case "object" if depth < _MOST_DEPTH:
            properties = schema.get("properties", {})
            return {name: _example(each, defs, depth + 1) for name, each in properties.items()}
        case "array" if depth < _MOST_DEPTH:
            return [_example(schema.get("items", {}), defs, depth + 1)]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return schema.get("default") or schema.get("examples", [_CANARY])[0]


def _seeds() -> Sequence[bytes]:
    seeds = []
    for at, form in enumerate(_FORMS):
        schema = form.model.model_json_schema(by_alias=True)
        example = _example(schema, schema.get("$defs", {}))
        written = json.dumps(example)
        if form.is_query:
            written = "&".join(f"{name}={value}" for name, value in example.items())
        seeds.append(bytes((at,)) + written.encode())
    return seeds


def _within(mutation: Mutation) -> Mutation:
    def mutated(data: bytes, rng: Random, other: Any) -> bytes:
        return data[:1] + mutation(data[1:], rng, lambda: other()[1:])

    return mutated


TARGETS = (
    Target(
        "rest", _seeds, _checking, (_within(json_splice), _within(json_splice)),
        (b"null", b"true", b'""', b"{}", b"[]", b"&", b"=", b"%00", b"2024-01-01T00:00:00Z",
         b"property=", b">=", _CANARY.encode()),
        ("segments/doors/", "segments/runtime/"), 4_000, 40.0,
    ),
)  # fmt: skip
