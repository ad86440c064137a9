"""
Places of configured members, and the scanner that knows them.

`rtb.openrtb.decode` adds a path's next member to the deepest view that the path leads through.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Final, Literal

import msgspec

from rtb.openrtb.uids import SourcedUid
from rtb.openrtb.views import (
    BidRequest,
    Device,
    DeviceExt,
    Regs,
    RegsExt,
    User,
    UserExt,
    signals_in,
)

PLACES: Final[dict[str, type[msgspec.Struct]]] = {
    "user.ext": UserExt,
    "user": User,
    "device.ext": DeviceExt,
    "device": Device,
    "": BidRequest,
}
"""Views that may get a configured member, the deepest first."""

FIELD_OF_PLACE: Final = {
    "user.ext": "user_ext",
    "user": "user",
    "device.ext": "device_ext",
    "device": "device",
    "": "head",
}

Scanned = tuple[list[SourcedUid] | None, bytes, int, int, int, int, bytes, bytes, int | None, bool]
"""
The result of `rtb.openrtb.scan` for a plain request; for others `None`, or `False` if no member
that we read is duplicate.

The uids, or `None` if the whole user must be decoded; an object with only those members of `user`
that are to be decoded, empty without any; bounds of `user` and of `user.data` in the body, zeros if
missing; such an object of `device`; `regs`, as bytes; `tmax`; whether the body is ASCII (others are
not yet checked to be UTF-8).
"""


def split(path: str) -> tuple[str, str, tuple[str, ...]]:
    """Split a path: its view, its member there, and the remaining names."""
    # The last place, the request, always matches.
    place = next(place for place in PLACES if not place or path.startswith(f"{place}."))
    member, *rest = path[len(place) :].removeprefix(".").split(".")
    return place, member, tuple(rest)


def plain_scan(
    strip_paths: Sequence[str], configured: Mapping[str, Set[str]]
) -> Callable[[bytes], Scanned | Literal[False] | None] | None:
    """Return a scanner of plain requests; `None`: not compiled, or not reliable here."""
    try:
        from rtb.openrtb.scan import Scanner  # noqa: PLC0415 - only with a C compiler
    except ImportError:
        return None
    forbidden = {path.rpartition(".")[2] for path in strip_paths}
    user, user_ext = (configured["user"] | {"consent"}, configured["user.ext"] | {"consent"})
    device, device_ext = (
        configured["device"] | set(signals_in(Device)),
        configured["device.ext"] | set(signals_in(DeviceExt)),
    )
    if max(map(len, (forbidden, user, user_ext, device, device_ext))) > _MAX_NAMES:
        return None
    if not all(map(_PLAIN_NAME.fullmatch, forbidden)):
        return None
    return Scanner(
        _encoded(forbidden),
        user=_encoded(user),
        user_ext=_encoded(user_ext),
        device=_encoded(device),
        device_ext=_encoded(device_ext),
        regs=_encoded(signals_in(Regs)),
        regs_ext=_encoded(signals_in(RegsExt)),
    )


def _encoded(names: Iterable[str]) -> list[bytes]:
    return [name.encode() for name in names]


_PLAIN_NAME: Final = re.compile(r"[0-9A-Za-z_-]+")
"""Names that senders have no reason to escape."""

_MAX_NAMES: Final = 16
