"""
Objects and arrays taken apart into the bytes of what they hold, one level deep.

msgspec does it, ten times as fast, for all JSON but two things that RFC 8259 allows and
some senders write: a lone surrogate (a name cut in the middle of an emoji, 8.2), anywhere;
and a byte order mark before all (8.1). For those it is done here, by the decoder of the
standard library, which says where a value ends.

The text is read as Latin-1, a character a byte: what JSON is built of is ASCII, so places in
the text are places in the bytes.
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
    """One member of an object: its name, the same as it is spelled, and where its value is."""

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
        ValueError: It is no object.
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
        array: JSON of an array, without white space around it.
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
    """Write an object again with another value of a member that it has."""
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
    Return the value of a member, of the last one if there are several; `None` if there is none.

    Raises:
        ValueError: `obj` is no object.
    """
    try:
        raw = _members(obj).get(name)
        return None if raw is None else bytes(raw)
    except msgspec.DecodeError:
        found = [member for member in members_of(obj) if member.name == name]
        return obj[found[-1].at : found[-1].end] if found else None


def place_in(obj: bytes, name: str) -> tuple[int, int]:
    """Return where a member's value begins and ends, the last one's; zeros if there is none."""
    places = [(member.at, member.end) for member in members_of(obj) if member.name == name]
    return places[-1] if places else (0, 0)


def without_member(obj: bytes, name: str) -> bytes:
    """Write an object again without the members of a name."""
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
    # Raised out here, for an exception of decoding quotes the text, and would come along.
    raise _NoJson


def _nothing(_: Any) -> None:
    """Keep nothing of a value: it is only passed."""


class _NoJson(ValueError):
    """What should have been JSON is none."""


_decode: Final = json.JSONDecoder(
    object_pairs_hook=_nothing, parse_int=_nothing, parse_float=_nothing
).raw_decode
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_elements: Final = msgspec.json.Decoder(list[Raw]).decode
_encode: Final = msgspec.json.Encoder().encode
