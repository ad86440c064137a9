"""
Describes a wrong setting in one line, in the operator's words.

pydantic names fields, types and locations; the line names the variable, even of a field with
several aliases. The value is quoted unless it could show a password (a URL), or lies inside a JSON
value.
"""

import json
import os
from typing import Any

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings
from pydantic_settings.exceptions import SettingsError

from segments.runtime.validation_faults import sentence_of

IN_FILE = "_FILE"
"""Ends the name of a variable with the path of a secret's file."""


def wrong_setting(cls: type[BaseSettings], details: Any) -> str:
    """Return the line of a refused setting; `details` is of pydantic's error list."""
    if not details["loc"]:  # of settings that contradict each other; the message names them
        return _reason(details)
    where, *inside = details["loc"]
    names = names_of(cls, str(where))
    variable = _set_name(names)
    place = "".join(f", {part}" for part in inside)
    if details["type"] == "missing" and not inside:
        return f"{variable}: not set, and has no default"
    value = details["input"]
    # Inside a JSON value the whole line would be noise; a URL may hold a password.
    if inside or not isinstance(value, str) or _is_secret(cls, str(where)):
        return f"{variable}{place}: {_reason(details)}"
    return f"{variable}={value}: {_reason(details)}"


def _reason(details: Any) -> str:
    return sentence_of(details).removeprefix("is ")


def unreadable_setting(cls: type[BaseSettings], error: SettingsError) -> str:
    """Return the line of a setting with several values that is not valid JSON."""
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
    Return the variables that can set a field, a secret's file included.

    `where` is the field's own name, or its first alias.
    """
    for name, field in cls.model_fields.items():
        aliases = _aliases(field)
        if where == name or where in aliases:
            names = aliases or [f"{cls.model_config.get('env_prefix', '')}{name}".upper()]
            return names if field.repr else [*names, *(f"{each}{IN_FILE}" for each in names)]
    return [where]


def _is_secret(cls: type[BaseSettings], where: str) -> bool:
    return any(
        not field.repr and (where == name or where in _aliases(field))
        for name, field in cls.model_fields.items()
    )


def _aliases(field: FieldInfo) -> list[str]:
    match field.validation_alias:
        case str(alias):
            return [alias]
        case AliasChoices(choices=choices):
            return [alias for alias in choices if isinstance(alias, str)]
        case _:
            return []


def _set_name(names: list[str]) -> str:
    is_set = {name.upper() for name in os.environ}
    return next((name for name in names if name.upper() in is_set), names[0])
