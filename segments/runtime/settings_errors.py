"""
A wrong setting in one line, in the words of whoever set it.

pydantic speaks of fields, types and locations; an operator has typed a variable, and
must find it in the line by the name that was typed, one of several where a field has
aliases. The value is quoted but where that could show a password: never of a URL, and
not of what is inside of a JSON value, where the whole line would be noise.
"""

import json
import os
from typing import Any

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings
from pydantic_settings.exceptions import SettingsError

from segments.runtime.validation_faults import sentence_of


def wrong_setting(cls: type[BaseSettings], details: Any) -> str:
    """Return the line of one setting that pydantic refused; `details` as its error lists them."""
    if not details["loc"]:  # of several that don't go together; it names them itself
        return _reason(details)
    where, *inside = details["loc"]
    names = names_of(cls, str(where))
    variable = _set_name(names)
    place = "".join(f", {part}" for part in inside)
    if details["type"] == "missing" and not inside:
        return f"{variable}: not set, and has no default"
    value = details["input"]
    # Inside of a JSON value the whole line would be noise; a URL may hold a password.
    if inside or not isinstance(value, str) or variable.endswith("_URL"):
        return f"{variable}{place}: {_reason(details)}"
    return f"{variable}={value}: {_reason(details)}"


def _reason(details: Any) -> str:
    return sentence_of(details).removeprefix("is ")


def unreadable_setting(cls: type[BaseSettings], error: SettingsError) -> str:
    """Return the line of a setting of more than one value that is not the JSON it must be."""
    for name in cls.model_fields:
        if f'"{name}"' in str(error):
            return f"{_set_name(names_of(cls, name))}: not JSON"
    cause = error.__cause__
    return f"settings: {'not JSON' if isinstance(cause, json.JSONDecodeError) else error}"


def variables_of(cls: type[BaseSettings]) -> list[str]:
    """Return every environment variable that a class reads."""
    return [name for field in cls.model_fields for name in names_of(cls, field)]


def names_of(cls: type[BaseSettings], where: str) -> list[str]:
    """
    Return the variables that can set a field.

    Args:
        cls: The settings.
        where: The field, as pydantic has it: its name, or its first alias.
    """
    for name, field in cls.model_fields.items():
        aliases = _aliases(field)
        if where == name or where in aliases:
            return aliases or [f"{cls.model_config.get('env_prefix', '')}{name}".upper()]
    return [where]


def _aliases(field: FieldInfo) -> list[str]:
    match field.validation_alias:
        case str(alias):
            return [alias]
        case AliasChoices(choices=choices):
            return [alias for alias in choices if isinstance(alias, str)]
        case _:
            return []


def _set_name(names: list[str]) -> str:
    """Of the variables that could set a field, the one that did; else the first."""
    is_set = {name.upper() for name in os.environ}
    return next((name for name in names if name.upper() in is_set), names[0])
