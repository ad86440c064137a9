"""
Changes a member of a JSON object, and keeps all other bytes.

Values are never encoded again: 1.10 would become 1.1, a large integer a float, an escape another. A
value is found by its first bytes if they occur once in the object. Otherwise (`{}` is frequent) the
object is split one level deep into raw members, and rebuilt: white space between members and names'
spelling may change, values do not.

Measured on 2.8 KB: search and splice 1.9 µs, split and rebuild 4.6 µs, decode and encode with
orjson 13.6 µs, and inexact.
"""

from collections.abc import Iterable
from typing import Final

from rtb.openrtb.members import value_in, with_member, without_member

_TELLTALE_BYTES: Final = 32
"""Of a value, to search for: 0.8 µs; 64 bytes cost 1.4 and decide little more."""


def placed(obj: bytes, name: str, old: bytes, new: bytes) -> bytes:
    """Replace the old value as `replaced`, or add a member as `added` if `old` is empty."""
    return replaced(obj, name, old, new) if old else added(obj, name, new)


def place_of(value: bytes, obj: bytes) -> int:
    """Return where a member's value begins in its object; -1 if ambiguous."""
    telltale = value[:_TELLTALE_BYTES]
    at = obj.find(telltale)
    return at if obj.find(telltale, at + 1) < 0 else -1


def replaced(obj: bytes, name: str, old: bytes, new: bytes) -> bytes:
    """
    Replace the value of a member.

    Args:
        obj: The object, valid JSON.
        name: A member of the object.
        old: Its value, byte for byte as in `obj`.
        new: JSON.
    """
    at = place_of(old, obj)
    if at >= 0:
        return obj[:at] + new + obj[at + len(old) :]
    return with_member(obj, name, new)


def added(obj: bytes, name: str, new: bytes) -> bytes:
    """
    Add a member at the end of an object.

    Args:
        obj: The object, valid JSON, without a member of that name.
        name: Plain ASCII: written without escapes.
        new: JSON.
    """
    end = obj.rindex(b"}")
    comma = b"," if obj[obj.index(b"{") + 1 : end].strip() else b""
    return b'%b%b"%b":%b%b' % (obj[:end], comma, name.encode(), new, obj[end:])


def appended(array: bytes, values: Iterable[bytes]) -> bytes:
    """
    Append values to an array.

    Args:
        array: JSON of an array without surrounding white space; null or empty counts as an
            empty array.
        values: JSON.
    """
    inside = array[1:-1] if array.startswith(b"[") else b""
    comma = b"," if inside.strip() else b""
    return b"[%b%b%b]" % (inside, comma, b",".join(values))


def without(obj: bytes, path: tuple[str, ...]) -> bytes:
    """
    Remove the member at a path of names from an object.

    Returns:
        `obj` itself if the path leads nowhere. All duplicates of the last name are removed.
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
