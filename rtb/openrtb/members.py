"""
Splits objects and arrays into the bytes of their values, one level deep.

msgspec is ten times as fast, but fails on a lone surrogate (a name cut within an emoji) and a
leading byte order mark, which RFC 8259 allows (8.2, 8.1) and some senders write. For those, the
standard library's decoder finds each value's end.

The text is decoded as Latin-1: JSON's syntax is ASCII, so positions are those in the bytes.
"""

import json
import re
from collections.abc import Iterable
from json.decoder import scanstring  # type: ignore[attr-defined] # typeshed does not know it
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

BOM: Final = b"\xef\xbb\xbf"

_SPACE: Final = re.compile(r"[ \t\n\r]*")


class Member(NamedTuple):
    """An object's member: name, name as spelled, position of the value."""

    name: str
    spelling: bytes
    at: int
    end: int


def members_of(obj: bytes) -> list[Member]:
    """
    Find the members of an object.

    Args:
        obj: JSON, perhaps with a byte order mark.

    Raises:
        ValueError: Not an object.
    """
    text = obj.decode("latin-1")
    at = _past_space(text, len(BOM) if obj.startswith(BOM) else 0)
    members: list[Member] = []
    if text[at : at + 1] != "{":
        raise _NoJson
    at = _past_space(text, at + 1)
    while text[at : at + 1] == '"':
        start = at
        name, at = scanstring(text, at + 1, True)
        spelling = obj[start:at]
        at = _past_space(text, at)
        if text[at : at + 1] != ":":
            raise _NoJson
        at = _past_space(text, at + 1)
        end = _past_value(text, at)
        members.append(Member(name, spelling, at, end))
        at = _past_space(text, end)
        if text[at : at + 1] == ",":
            at = _past_space(text, at + 1)
    return members


def elements_of(array: bytes) -> list[bytes]:
    """
    Return the elements of an array.

    Args:
        array: JSON of an array, without surrounding white space.
    """
    try:
        return [bytes(raw) for raw in _elements(array)]
    except msgspec.DecodeError:
        text = array.decode("latin-1")
        elements: list[bytes] = []
        at = _past_space(text, 1)
        while text[at] != "]":
            end = _past_value(text, at)
            elements.append(array[at:end])
            at = _past_space(text, end)
            if text[at] == ",":
                at = _past_space(text, at + 1)
        return elements


def with_member(obj: bytes, name: str, value: bytes) -> bytes:
    """Return the object with another value for a present member."""
    try:
        members = _members(obj)
        members[name] = Raw(value)
        return _encode(members)
    except msgspec.DecodeError:
        found = members_of(obj)
        last = max(n for n, member in enumerate(found) if member.name == name)
        values = [obj[member.at : member.end] for member in found]
        values[last] = value
        return _written(obj, zip([member.spelling for member in found], values, strict=True))


def value_in(obj: bytes, name: str) -> bytes | None:
    """
    Return the value of a member, the last of duplicates; `None` if missing.

    Raises:
        ValueError: `obj` is not an object.
    """
    try:
        raw = _members(obj).get(name)
        return None if raw is None else bytes(raw)
    except msgspec.DecodeError:
        found = [member for member in members_of(obj) if member.name == name]
        return obj[found[-1].at : found[-1].end] if found else None


def place_in(obj: bytes, name: str) -> tuple[int, int]:
    """Return the bounds of a member's value, the last of duplicates; zeros if missing."""
    places = [(member.at, member.end) for member in members_of(obj) if member.name == name]
    return places[-1] if places else (0, 0)


def without_member(obj: bytes, name: str) -> bytes:
    """Return the object without the members of that name."""
    try:
        members = _members(obj)
        del members[name]
        return _encode(members)
    except msgspec.DecodeError:
        return _written(
            obj,
            [
                (member.spelling, obj[member.at : member.end])
                for member in members_of(obj)
                if member.name != name
            ],
        )


def _written(obj: bytes, members: Iterable[tuple[bytes, bytes]]) -> bytes:
    mark = BOM if obj.startswith(BOM) else b""
    return b"%b{%b}" % (mark, b",".join(b"%b:%b" % member for member in members))


def _past_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _past_value(text: str, at: int) -> int:
    try:
        return _decode(text, at)[1]
    except ValueError:
        pass
    # Outside of `except`: the context would quote the text.
    raise _NoJson


def _nothing(_: Any) -> None:
    """Discard a value: only its end matters."""


class _NoJson(ValueError):
    """Invalid JSON."""


_decode: Final = json.JSONDecoder(
    object_pairs_hook=_nothing, parse_int=_nothing, parse_float=_nothing
).raw_decode
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_elements: Final = msgspec.json.Decoder(list[Raw]).decode
_encode: Final = msgspec.json.Encoder().encode
