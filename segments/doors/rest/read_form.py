"""
What a request says, as the form that its operation takes; a 400 where it is none.

A body of JSON is read strictly: `true` is no number, and `"no"` no boolean, for what a lax
reader makes of such a value is a guess at what its sender meant. Where a vendor's own
examples write a number as text, the form says so (`segments.runtime.json_values.WholeNumber`).
The path and the query have text alone, so there digits are numbers.
"""

import codecs
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from segments.doors.rest.known_members import KnownForm, NamedTwice, check_named_once
from segments.doors.rest.problem import Problem, invalid
from segments.runtime.validation_faults import json_faults, validation_faults

Model = TypeVar("Model", bound=BaseModel)


def read_json(model: type[Model], raw: bytes) -> Model:
    """
    Read a body.

    Raises:
        Problem: 400; it names each member that is wrong.
    """
    # RFC 8259, 8.1: a mark is no part of it, and need not be an error.
    raw = raw.removeprefix(codecs.BOM_UTF8)
    if issubclass(model, KnownForm):
        try:
            check_named_once(raw)
        except NamedTwice as error:
            raise Problem(400, f"body: {error}") from None
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as error:
        problem = invalid("body", json_faults(error, raw))
    raise problem  # outside, so that the values don't come along as context


def read_text(model: type[Model], where: str, values: Mapping[str, Any]) -> Model:
    """
    Read a path or a query.

    Args:
        model: The form.
        where: `path` or `query`.
        values: What stands there.

    Raises:
        Problem: 400; it names each member that is wrong.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = invalid(where, validation_faults(error, values))
    raise problem
