"""
Validation of requests: the input of an operation, or a 400.

JSON is read strictly: `true` is no number and `"no"` no boolean. Where a vendor's own examples
write a number as text, the schema says so (`segments.runtime.json_values.WholeNumber`). In path and
query, digits are numbers.
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
    Parse and validate a body.

    Raises:
        Problem: 400, with each invalid member.
    """
    # RFC 8259, 8.1: a parser may ignore a byte order mark.
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
    raise problem  # outside the block, so that its context does not hold the values


def read_text(model: type[Model], where: str, values: Mapping[str, Any]) -> Model:
    """
    Validate a path or a query.

    `where` is `path` or `query`; the values are decoded.

    Raises:
        Problem: 400, with each invalid member.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = invalid(where, validation_faults(error, values))
    raise problem
