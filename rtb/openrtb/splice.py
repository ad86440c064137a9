"""
Changing one member of a JSON object and leaving the rest as the bytes that came.

A value is never decoded and written again: 1.10 would become 1.1, a large
integer a float, an escape another. Where a value stands is found by its own
first bytes: if they occur once in the object, they occur where the value is.
If they occur more often (`{}` does), the object is taken apart one level deep,
members as raw bytes, and written again; then white space between its members
and the spelling of their names is ours, the values are still the sender's.

Measured on 2.8 KB: search and splice 1.9 µs, one level apart and back 4.6 µs,
decode and encode with orjson 13.6 µs, which would not be exact besides.
"""

from collections.abc import Iterable
from typing import Final

from rtb.openrtb.members import value_in, with_member, without_member

_TELLTALE_BYTES: Final = 32
"""How much of a value is searched for: 0.8 µs; 64 bytes cost 1.4 and tell little more."""


def placed(obj: bytes, name: str, old: bytes, new: bytes) -> bytes:
    """As `replaced` where there is an old value, as `added` where `old` is empty."""
    return replaced(obj, name, old, new) if old else added(obj, name, new)


def place_of(value: bytes, obj: bytes) -> int:
    """Return where a member's value begins in its object; -1 if its bytes do not tell."""
    telltale = value[:_TELLTALE_BYTES]
    at = obj.find(telltale)
    return at if obj.find(telltale, at + 1) < 0 else -1


def replaced(obj: bytes, name: str, old: bytes, new: bytes) -> bytes:
    """
    Give a member of an object another value.

    Args:
        obj: The object, valid JSON.
        name: The member, which is there.
        old: Its value, byte for byte as it stands in `obj`.
        new: JSON.
    """
    at = place_of(old, obj)
    if at >= 0:
        return obj[:at] + new + obj[at + len(old) :]
    return with_member(obj, name, new)


def added(obj: bytes, name: str, new: bytes) -> bytes:
    """
    Give an object one member more, behind those that it has.

    Args:
        obj: The object, valid JSON, without a member of that name.
        name: Plain ASCII: it is written as it is.
        new: JSON.
    """
    end = obj.rindex(b"}")
    comma = b"," if obj[obj.index(b"{") + 1 : end].strip() else b""
    return b'%b%b"%b":%b%b' % (obj[:end], comma, name.encode(), new, obj[end:])


def appended(array: bytes, values: Iterable[bytes]) -> bytes:
    """
    Put values behind those of an array.

    Args:
        array: JSON of an array without white space around it; null or nothing
            is taken for an empty one.
        values: JSON.
    """
    inside = array[1:-1] if array.startswith(b"[") else b""
    comma = b"," if inside.strip() else b""
    return b"[%b%b%b]" % (inside, comma, b",".join(values))


def without(obj: bytes, path: tuple[str, ...]) -> bytes:
    """
    Take the member at a path of names out of an object, wherever it leads.

    Returns:
        `obj` itself if the path leads nowhere: a member is missing, or is not
        an object. All members of the last name go, were there several.
    """
    name, *rest = path
    try:
        inner = value_in(obj, name)
    except ValueError:
        return obj
    if inner is None:
        return obj
    if not rest:
        return without_member(obj, name)
    changed = without(inner, tuple(rest))
    return obj if changed is inner else replaced(obj, name, inner, changed)
