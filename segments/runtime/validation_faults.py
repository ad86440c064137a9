"""
Describes the faults of a request or a setting: a place and a sentence for each.

pydantic's own messages and places speak of our code: tuples, patterns, class names. Their reader
has sent JSON, or set a variable. So each kind of fault has one sentence here, an unknown kind a
general one, and only our own validators' messages are passed on. No sentence quotes the value.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

_PYDANTICS = frozenset(get_args(ErrorType))
_GENERAL = "is not what belongs here"
_QUOTED = re.compile(r"'([^']*)'")
_JSON_PLACE = re.compile(r"at line (\d+) column (\d+)$")


class Fault(NamedTuple):
    """A fault of a value."""

    loc: tuple[int | str, ...]  # of existing members; the last may be the missing one
    kind: str  # pydantic's word, or our validator's
    sentence: str  # "is missing", without its subject


def json_faults(error: ValidationError, raw: bytes) -> list[Fault]:
    """Return the faults of a JSON request, each place once."""
    try:
        sent = json.loads(raw)
    except (ValueError, RecursionError):
        sent = None  # the faults report it
    return validation_faults(error, sent)


def validation_faults(error: ValidationError, sent: Any) -> list[Fault]:
    """
    Return a value's faults, each place once.

    `sent`, the validated value, tells a place from a class name.
    """
    place_to_fault: dict[tuple[int | str, ...], Fault] = {}
    for details in error.errors(include_url=False):
        loc = _place_in(sent, details)
        fault = Fault(loc, details["type"], sentence_of(details))
        same = place_to_fault.get(loc)
        if same is not None and same.sentence != fault.sentence:
            # The value has neither of its two possible forms.
            fault = same._replace(sentence=f"{same.sentence}, and {fault.sentence}")
        place_to_fault[loc] = fault
    places = list(place_to_fault)
    return [
        fault
        for loc, fault in place_to_fault.items()
        # pydantic counts only the valid entries of an array.
        if fault.kind != "too_short" or not any(_is_below(other, loc) for other in places)
    ]


def sentence_of(details: ErrorDetails) -> str:
    """Describe a fault without its subject, as in "is not a whole number"."""
    kind = details["type"]
    if kind not in _PYDANTICS:
        return details["msg"]  # of a validator of ours
    said = _SENTENCES.get(kind, _GENERAL)
    return said if isinstance(said, str) else said(details.get("ctx", {}))


def _number(number: float) -> str:
    return f"{number:g}" if isinstance(number, float) else str(number)


def _none_of(alternatives: str) -> str:
    """Say that a value is none of the allowed ones; `alternatives` quotes each."""
    allowed = _QUOTED.findall(alternatives)
    match allowed:
        case []:
            return _GENERAL
        case [only]:
            return f"must be {only}"
        case [one, other]:
            return f"is neither {one} nor {other}"
        case _:
            return f"is none of {', '.join(allowed)}"


def _too_short(context: Mapping[str, Any]) -> str:
    least = context["min_length"]
    return "is empty" if least == 1 else f"has fewer than {least} entries"


def _string_too_short(context: Mapping[str, Any]) -> str:
    least = context["min_length"]
    return "is empty" if least == 1 else f"has fewer than {least} characters"


def _not_json(context: Mapping[str, Any]) -> str:
    place = _JSON_PLACE.search(str(context.get("error", "")))
    return "is no JSON" + (f": see line {place[1]}, column {place[2]}" if place else "")


_WHOLE, _NUMBER, _BOOLEAN = "is not a whole number", "is not a number", "is neither true nor false"
_TEXT, _ARRAY, _OBJECT = "is not a text", "is not an array", "is not an object"

_SENTENCES: Mapping[str, str | Callable[[Mapping[str, Any]], str]] = {
    "json_invalid": _not_json,
    "json_type": "is no JSON",
    "recursion_loop": "is nested too deep",
    "recursion_depth_exceeded": "is nested too deep",
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "unexpected_keyword_argument": "is not known here",
    "none_required": "must be null",
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "list_type": _ARRAY,
    "tuple_type": _ARRAY,
    "set_type": _ARRAY,
    "frozen_set_type": _ARRAY,
    "iterable_type": _ARRAY,
    "too_short": _too_short,
    "too_long": lambda context: f"has more than {context['max_length']} entries",
    "string_type": _TEXT,
    "string_unicode": "is not text in UTF-8",
    "string_too_short": _string_too_short,
    "string_too_long": lambda context: f"has more than {context['max_length']} characters",
    "string_pattern_mismatch": "is not written as it must be",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": _BOOLEAN,
    "bool_parsing": _BOOLEAN,
    "greater_than": lambda context: f"must be more than {_number(context['gt'])}",
    "greater_than_equal": lambda context: f"must be at least {_number(context['ge'])}",
    "less_than": lambda context: f"must be less than {_number(context['lt'])}",
    "less_than_equal": lambda context: f"must be at most {_number(context['le'])}",
    "enum": lambda context: _none_of(context["expected"]),
    "literal_error": lambda context: _none_of(context["expected"]),
    "union_tag_invalid": lambda context: (
        f"has a {context['discriminator'].strip(chr(39))} that {_none_of(context['expected_tags'])}"
    ),
    "union_tag_not_found": lambda context: (
        f"has no {context['discriminator'].strip(chr(39))}, which says what it is"
    ),
    "value_error": lambda context: str(context["error"]),
    "assertion_error": lambda context: str(context["error"]),
}


def _is_below(place: tuple[int | str, ...], other: tuple[int | str, ...]) -> bool:
    return len(place) > len(other) and place[: len(other)] == other


def _place_in(sent: Any, details: ErrorDetails) -> tuple[int | str, ...]:
    """Return a fault's place without the alternatives that pydantic inserts."""
    place: list[int | str] = []
    left = list(details["loc"])
    is_missing = details["type"] == "missing"
    at = sent
    while left:
        part, *left = left
        if _has(at, part):
            place.append(part)
            at = at[part]
        elif left and not (any(_has(at, each) for each in left) or is_missing):
            return (*place, part, *left)  # named otherwise there, as our forms allow
        elif not left and is_missing:
            place.append(part)
    return tuple(place)


def _has(value: Any, part: int | str) -> bool:
    if isinstance(value, Mapping):
        return part in value
    is_array = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return is_array and isinstance(part, int) and part < len(value)
