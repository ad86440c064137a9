"""
No door answers in the words of our code: of any form, whatever is wrong in it.

The forms are taken from the operations, so a new one is held to it as well.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest
from pydantic import BaseModel

from segments.doors.live_audience.metadata import Metadata, read_metadata
from segments.doors.rest.door import Door
from segments.doors.rest.problem import Problem
from segments.doors.rest.read_form import read_json, read_text
from segments.model.stop_reason import Stopped

_FOREIGN = re.compile(
    r"Input|should|Tuple|List|String|dictionary|pattern|Extra|Field|required|Value error"
    r"|validat|instance|pydantic|None|\\|\^|\[0-9|class"
)
_VALUES: tuple[Any, ...] = (None, True, 7, -1, 1.5, "", "x", "no", "x" * 5000, "\n", [], {}, [None])


def doors() -> Iterator[type[Door]]:
    left = [Door]
    while left:
        door = left.pop()
        left += door.__subclasses__()
        yield door


def forms(where: str) -> list[type[BaseModel]]:
    """Return what operations take from one place, each form once."""
    found: dict[type[BaseModel], None] = {}
    for door in doors():
        for method in vars(door).values():
            if hasattr(method, "__operation__"):
                hints = get_type_hints(method)
                found.update({hints[where]: None} if where in hints else {})
    return list(found)


BODIES = forms("body")
TEXTS = [(where, form) for where in ("path", "query") for form in forms(where)]


def members(form: type[BaseModel]) -> list[str]:
    """Return the names of all members, nested ones too."""
    schema = form.model_json_schema()
    nested = schema.get("$defs", {}).values()
    return [name for each in (schema, *nested) for name in each.get("properties", {})]


def wrong_bodies(form: type[BaseModel]) -> Iterator[Any]:
    yield from _VALUES
    yield {"unknown": 1}
    inner = [{name: value} for name in members(form) for value in _VALUES]
    for name in form.model_json_schema()["properties"]:
        for value in _VALUES:
            yield {name: value}
        for value in inner:
            yield {name: value}
            yield {name: [value]}
            yield {name: {"params": value}}


def resolves(sent: Any, pointer: str) -> bool:
    """Tell whether a pointer leads to what was sent, or to a member that its object lacks."""
    parts = pointer.split("/")[1:]
    for number, part in enumerate(parts, start=1):
        if isinstance(sent, list) and part.isdigit() and int(part) < len(sent):
            sent = sent[int(part)]
        elif isinstance(sent, dict) and part in sent:
            sent = sent[part]
        else:
            return isinstance(sent, dict) and number == len(parts)
    return True


def faults_of(form: type[BaseModel], sent: Any) -> list[dict[str, Any]]:
    try:
        read_json(form, json.dumps(sent).encode())
    except Problem as problem:
        return list(problem.members["errors"])
    return []


@pytest.mark.parametrize("form", BODIES, ids=lambda form: form.__name__)
def test_what_is_wrong_with_a_body_is_said_in_words_of_the_api(form: type[BaseModel]) -> None:
    count = 0
    for sent in wrong_bodies(form):
        for fault in faults_of(form, sent):
            count += 1
            assert not _FOREIGN.search(fault["detail"]), (sent, fault)
            assert resolves(sent, fault["pointer"]), (sent, fault)
    assert count


@pytest.mark.parametrize(("where", "form"), TEXTS, ids=lambda each: getattr(each, "__name__", each))
def test_what_is_wrong_with_a_path_or_query_is_said_in_words_of_the_api(
    where: str, form: type[BaseModel]
) -> None:
    for name in [*members(form), "unknown"]:
        repeats = isinstance(getattr(form.model_fields.get(name), "default", None), tuple)
        for text in ("", "x", "-1", "x" * 5000, "\n", "9" * 400, "createdAt~1"):
            try:
                read_text(form, where, {name: (text,) if repeats else text})
            except Problem as problem:
                said = json.dumps([problem.detail, problem.members["errors"]])
                assert not _FOREIGN.search(said.replace("\\n", "")), said


def test_what_is_wrong_with_metadata_is_said_in_words_of_the_document() -> None:
    for sent in wrong_bodies(Metadata):
        with pytest.raises(Stopped) as stopped:
            read_metadata(json.dumps(sent).encode())
        assert not _FOREIGN.search(stopped.value.detail), (sent, stopped.value.detail)


def integers(schema: dict[str, Any]) -> bool:
    kinds = {each.get("type") for each in (schema, *schema.get("anyOf", ()))}
    return "integer" in kinds and "boolean" not in kinds


def booleans(schema: dict[str, Any]) -> bool:
    return "boolean" in {each.get("type") for each in (schema, *schema.get("anyOf", ()))}


@pytest.mark.parametrize(
    ("is_of_kind", "others"),
    [
        pytest.param(integers, (True, False), id="a boolean is no number"),
        pytest.param(booleans, ("no", "off", "true", 0, 1), id="a word or a number is no boolean"),
    ],
)
def test_json_of_one_kind_is_never_taken_for_another(is_of_kind: Any, others: Any) -> None:
    read: list[type[BaseModel]] = [*BODIES, Metadata]
    asked = [
        (form, name)
        for form in read
        for name, schema in form.model_json_schema()["properties"].items()
        if is_of_kind(schema)
    ]

    taken = [
        (form.__name__, name, other)
        for form, name in asked
        for other in others
        if f"/{name}" not in [fault["pointer"] for fault in faults_of(form, {name: other})]
    ]

    assert asked
    assert taken == []
