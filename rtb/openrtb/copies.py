"""
Reads a request with duplicate members, counting every copy.

"The names within an object SHOULD be unique" (RFC 8259, 4); otherwise readers may disagree. So all
copies' signals count, and all copies' ids are looked up. The outgoing request is for readers of the
last copy.

Objects are tuples of pairs, at five times the time of `rtb.openrtb.decode`. So only requests with
duplicates come here, found by `is_said_once` or `rtb.openrtb.scan`.
"""

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias

from msgspec import Struct

from rtb.openrtb.signals import NOTHING, Law, Said, Tracking, says_nothing
from rtb.openrtb.uids import SourcedUid
from rtb.openrtb.views import Device, DeviceExt, Regs, RegsExt, UidExt, signals_in

Pairs: TypeAlias = tuple[tuple[str, Any], ...]
"""An object."""

MAX_UIDS: Final = 1_024
"""
More than any lookup takes. Two sources and two ids make four uids: a hostile body could make
millions.
"""

_LONGEST_INTEGER: Final = 4_000
"""Digits; time is quadratic, and longer integers are no real ids."""


class Copies(NamedTuple):
    """A request's data for the stages, from every copy."""

    members: Pairs
    consents: Said
    regs: Law
    tracking: Tracking
    uids: list[SourcedUid]
    is_odd: bool


class UnreadableJson(ValueError):
    """Unreadable JSON; details would be personal data."""


def pairs_of(text: bytes) -> Any:
    """
    Decode JSON, with objects as tuples of pairs.

    Raises:
        UnreadableJson: Not JSON, or not UTF-8.
        RecursionError: Nested too deep.
    """
    try:
        return _decode_pairs(text.decode().removeprefix("\ufeff"))
    except ValueError:
        pass
    # Outside of `except`: the context would quote the text.
    raise UnreadableJson


def is_said_once(text: bytes) -> bool:
    """
    Return whether no object has duplicate members.

    Args:
        text: JSON.

    Raises:
        RecursionError: Nested too deep.
    """
    try:
        _decode_unique(text.decode())
    except ValueError:
        return False
    return True


def led_to(value: Any, names: Sequence[str]) -> list[Any]:
    """
    Follow a path through every copy, and through lists.

    Args:
        value: JSON, with objects as tuples of pairs.
        names: The path.
    """
    found: list[Any] = []
    _follow(value, names, 0, found)
    return found


def _follow(value: Any, names: Sequence[str], at: int, found: list[Any]) -> None:
    # Not a generator, whose making costs more than a path: every gRPC call comes here.
    if isinstance(value, list):
        for each in value:
            _follow(each, names, at, found)
    elif at == len(names):
        found.append(value)
    elif isinstance(value, tuple):
        name = names[at]
        for member, inner in value:
            if member == name:
                _follow(inner, names, at + 1, found)


def read_copies(members: Pairs) -> Copies:
    """Read the data that the stages need."""
    users, is_odd = _objects([members], "user")
    user_exts, is_odd_ext = _objects(users, "ext")
    uids: list[SourcedUid] = []
    for eids in _values([*users, *user_exts], "eids"):
        uids += _uids(eids)
        if len(uids) > MAX_UIDS:
            break
    return Copies(
        members,
        _values([*users, *user_exts], "consent"),
        _law([members]),
        _tracking([members]),
        uids[:MAX_UIDS],
        is_odd or is_odd_ext or len(uids) > MAX_UIDS,
    )


def _law(requests: Sequence[Pairs]) -> Law:
    regs, is_odd = _objects(requests, "regs")
    exts, is_odd_ext = _objects(regs, "ext")
    said = _signals((regs, Regs), (exts, RegsExt))
    return Law(**said, is_odd=is_odd or is_odd_ext)


def _tracking(requests: Sequence[Pairs]) -> Tracking:
    devices, is_odd = _objects(requests, "device")
    exts, is_odd_ext = _objects(devices, "ext")
    said = _signals((devices, Device), (exts, DeviceExt))
    return Tracking(**said, is_odd=is_odd or is_odd_ext)


def _signals(*places: tuple[Sequence[Pairs], type[Struct]]) -> dict[str, Said]:
    """All values of each signal in objects' views."""
    said: dict[str, Said] = {}
    for objects, view in places:
        for name in signals_in(view):
            said[name] = said.get(name, NOTHING) + _values(objects, name)
    return said


def _uids(eids: Any) -> list[SourcedUid]:
    """Read `eids` as `rtb.openrtb.uids` does; stops soon after `MAX_UIDS`."""
    uids: list[SourcedUid] = []
    for eid in eids if isinstance(eids, list) else ():
        if not isinstance(eid, tuple):
            continue
        sources = [source for source in _values([eid], "source") if isinstance(source, str)]
        arrays = [array for array in _values([eid], "uids") if isinstance(array, list)]
        for uid in chain.from_iterable(arrays):
            if not isinstance(uid, tuple):
                continue
            exts = _uid_exts(uid)
            for text in _values([uid], "id"):
                for source in sources if isinstance(text, str) else ():
                    uids += [(source, text, ext) for ext in exts]
                    if len(uids) > MAX_UIDS:
                        return uids
    return uids


def _uid_exts(uid: Pairs) -> list[UidExt | None]:
    objects, _ = _objects([uid], "ext")
    exts: list[UidExt | None] = []
    for ext in objects:
        exts += [UidExt(stype=stype) for stype in _values([ext], "stype")]
        exts += [UidExt(provider=provider) for provider in _values([ext], "provider")]
    return exts[:MAX_UIDS] or [None]


def _objects(parents: Sequence[Pairs], name: str) -> tuple[list[Pairs], bool]:
    """Return the objects under a name, and whether a value there is odd."""
    objects: list[Pairs] = []
    is_odd = False
    for value in _values(parents, name):
        if isinstance(value, tuple):
            objects.append(value)
        else:
            is_odd = is_odd or not says_nothing(value)
    return objects, is_odd


def _values(parents: Sequence[Pairs], name: str) -> Said:
    return tuple(
        value
        for parent in parents
        for member, value in parent
        if member == name and value is not None
    )


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise UnreadableJson


def _integer(text: str) -> Any:
    # Not declared as `float`, which compiled code converts integers to.
    return int(text) if len(text) <= _LONGEST_INTEGER else float(text)


def _no_constant(_text: str) -> Any:
    """Refuse NaN and the infinities, which are not JSON."""
    raise UnreadableJson


_decode_pairs: Final = json.JSONDecoder(
    object_pairs_hook=tuple, parse_int=_integer, parse_constant=_no_constant
).decode
_decode_unique: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=len, parse_float=len, parse_constant=_no_constant
).decode
