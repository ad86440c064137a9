"""
Where members that are configured to be read may stand, and the scanner that is told of them.

A configured path begins in one of the views: the deepest that it leads through. What it
names there is compiled into that view; `rtb.openrtb.decode` does so.
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
"""Views that a configured member may be added to, the deepest first."""

FIELD_OF_PLACE: Final = {
    "user.ext": "user_ext",
    "user": "user",
    "device.ext": "device_ext",
    "device": "device",
    "": "head",
}

Scanned = tuple[list[SourcedUid] | None, int, int, int, int, bytes, bytes, int | None, bool]
"""
What `rtb.openrtb.scan` says of a plain request; of another one `None`, or `False` if it knows
that none of the members that we read stands twice.

Its uids, or `None` if the user must be decoded; where `user` begins and ends in the body,
and `user.data`, zeros if they are not there; `device`, empty if it tells nothing, and
`regs`, as they stand there; `tmax`; whether all is ASCII. That it is UTF-8 else is not known.
"""


def split(path: str) -> tuple[str, str, tuple[str, ...]]:
    """Take a path apart: the view it begins in, its member there, and the names behind."""
    # Every path begins with the last place, which is the request itself.
    place = next(place for place in PLACES if not place or path.startswith(f"{place}."))
    member, *rest = path[len(place) :].removeprefix(".").split(".")
    return place, member, tuple(rest)


def plain_scan(
    strip_paths: Sequence[str], configured: Mapping[str, Set[str]]
) -> Callable[[bytes], Scanned | Literal[False] | None] | None:
    """Return what takes plain requests apart; `None` where it is not compiled, or can't be sure."""
    try:
        from rtb.openrtb.scan import Scanner  # noqa: PLC0415 - there where a C compiler was
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
"""A name that nobody has a reason to escape."""

_MAX_NAMES: Final = 16
