"""
Bodies and queries in which a member that we do not know is refused.

A form that passes over what it does not know loses what it was sent under another
name: the cookies of a person who said no under `liveItentFpcs`, the time after which
an audience is to end under `TTL`. So such a member is a 400 that names it, and the
known one that is nearest to it. Known are also

    what our answers say       for clients that send back what they were told; passed over
    other spellings            where the vendor's own document has them; a set that is named
                               in two spellings is both together

A name that stands twice in one object is a 400 as well: readers of JSON differ in which
of the two they take (RFC 8259, 4).

A name may be a value that slipped (an address, a hash): only what looks like the name
of a member is said again.
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
    """A JSON object has two members of one name; the message says which."""


class KnownForm(Form):
    """A body of which every member is known."""

    model_config = ConfigDict(extra="forbid")

    answered: ClassVar[frozenset[str]] = frozenset()
    """Members of answers, which are passed over."""

    also_spelled: ClassVar[Mapping[str, str]] = {}
    """Other spellings of a member, and the one that we use."""

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
    A query; what it says beyond what it may is refused.

    `?acton=remove`, were it ignored, would add.
    """


def unknown_member(name: str, known: Collection[str]) -> str:
    """Say that a member is not known, and which known one is nearest to it."""
    if not _NAME.fullmatch(name):
        return f"a member whose name has {len(name)} characters is not known"
    nearest = max(known, key=lambda each: _likeness(each, name))
    return f"the member {name} is not known; the nearest that is known is {nearest}"


def check_named_once(raw: bytes) -> None:
    """
    Refuse JSON in which an object has two members of one name; what is no JSON passes.

    Raises:
        NamedTwice: It has.
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
    """Return JSON with tuples as its arrays, for which a strict reader takes nothing else."""
    if isinstance(value, dict):
        return {name: _frozen(each) for name, each in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one.lower(), other.lower()).ratio()
