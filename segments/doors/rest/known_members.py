"""
Bodies and queries in which unknown members are refused.

A lenient form would lose data under a wrong name: an opt-out's cookies under `liveItentFpcs`, say.
So an unknown member is a 400 that names it and the nearest known member. Known, too, are:

    members of our answers     ignored: clients may send back an answer
    other spellings            those in the vendor's own document; a set under two spellings
                               is their union

A duplicate name in an object is a 400 as well: JSON readers differ in its value (RFC 8259, 4).

A name may be a misplaced value (an address, a hash): only a name like a member's is repeated.
"""

import json
import re
from collections.abc import Collection, Mapping
from difflib import SequenceMatcher
from typing import Any, ClassVar

from pydantic import ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from segments.doors.rest.schemas import Form

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}")
"""Shorter than any hash in hex."""


class NamedTwice(Exception):
    """A JSON object has a duplicate name, which the message says."""


class KnownForm(Form):
    """A body without unknown members."""

    model_config = ConfigDict(extra="forbid")

    answered: ClassVar[frozenset[str]] = frozenset()
    """Members of answers; ignored in requests."""

    also_spelled: ClassVar[Mapping[str, str]] = {}
    """Alternative spellings, to the spelling that we use."""

    @model_validator(mode="before")
    @classmethod
    def _know(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        known: dict[str, Any] = {}
        for name, said in value.items():
            ours = cls.also_spelled.get(name, name)
            if ours in cls.model_fields:
                known[ours] = _together(ours, known[ours], said) if ours in known else said
            elif name not in cls.answered:
                message = unknown_member(name, cls.model_fields)
                raise PydanticCustomError("unknown_member", "{message}", {"message": message})
        return _frozen(known)


class Query(KnownForm):
    """
    A query without unknown parameters.

    If ignored, `?acton=remove` would add.
    """


def unknown_member(name: str, known: Collection[str]) -> str:
    """Return a message with an unknown member and the nearest known member."""
    if not _NAME.fullmatch(name):
        return f"a member whose name has {len(name)} characters is not known"
    nearest = max(known, key=lambda each: _likeness(each, name))
    return f"the member {name} is not known; the nearest that is known is {nearest}"


def check_named_once(raw: bytes) -> None:
    """
    Refuse JSON with a duplicate name in an object; invalid JSON passes.

    Raises:
        NamedTwice: A name is duplicate.
    """
    try:
        json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return


def _once(pairs: list[tuple[str, Any]]) -> None:
    names = set[str]()
    for name, _ in pairs:
        if name in names:
            which = name if _NAME.fullmatch(name) else f"a member of {len(name)} characters"
            raise NamedTwice(f"{which} stands there twice")
        names.add(name)


def _together(name: str, one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return [*one, *(each for each in other if each not in one)]
    raise PydanticCustomError("two_spellings", "{name} is there in two spellings", {"name": name})


def _frozen(value: Any) -> Any:
    """Return JSON with tuples for arrays, as strict validation wants."""
    if isinstance(value, dict):
        return {name: _frozen(each) for name, each in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one.lower(), other.lower()).ratio()
