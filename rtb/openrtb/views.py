"""
The bid request as views: only the fields that we read, with any value.

Garbage in a field must not cost its sender the auction. So every field accepts every JSON value: a
view by the specification, or `Odd`, which consent refuses and other stages ignore. Decoding fails
only for a body that is no JSON object, or has a number that no double holds.

`Raw` keeps a value's bytes, so that splicing does not change it. A missing member is the default.
Of duplicate members the last is read, as in nearly every parser (RFC 8259, 4, leaves that open);
`rtb.openrtb.copies` reads the earlier ones, which count too.

Sections are those of OpenRTB 2.6; fields that 2.5 has in `ext` are read there too.
"""

from typing import Any, TypeAlias

import msgspec
from msgspec import Raw

OddScalar: TypeAlias = int | float | str | bool | None
Odd: TypeAlias = OddScalar | list[Any]
"""Values that may replace an object, null included."""

OddList: TypeAlias = OddScalar | dict[str, Any]
"""Values that may replace an array, null included."""

ABSENT = Raw()
"""The `Raw` of a missing member; a null is not missing."""


class UidExt(msgspec.Struct, frozen=True, gc=False):
    """3.2.28 UID.ext, as Prebid's adapters fill it."""

    stype: Any = None
    provider: Any = None


class Uid(msgspec.Struct, frozen=True, gc=False):
    """3.2.28 UID: an id of the user from a source."""

    id: Any = None
    ext: UidExt | Odd = None


class Eid(msgspec.Struct, frozen=True, gc=False):
    """3.2.27 EID: the user's ids from an identity source."""

    source: Any = None
    uids: list[Uid | Odd] | OddList = None


Eids: TypeAlias = list[Eid | Odd] | OddList


class UserExt(msgspec.Struct, frozen=True, gc=False):
    """User.ext: the fields of OpenRTB 2.5 that 2.6 moved into `User`."""

    consent: Any = None
    eids: Eids = None


class User(msgspec.Struct, frozen=True, gc=False):
    """3.2.20 User: the human user of the device."""

    consent: Any = None
    eids: Eids = None
    data: Raw = ABSENT
    ext: UserExt | Odd = None


class DataExt(msgspec.Struct, frozen=True, gc=False):
    """Data.ext: `segtax`, the taxonomy of its segments' ids (segtax.md of the IAB)."""

    segtax: Any = None


class Data(msgspec.Struct, frozen=True, gc=False):
    """3.2.21 Data, enough to identify its partner."""

    id: Any = None
    segment: Raw = ABSENT
    ext: DataExt | Odd = None


class Segment(msgspec.Struct, frozen=True, gc=False):
    """3.2.22 Segment."""

    id: Any = None


class DeviceExt(msgspec.Struct, frozen=True, gc=False):
    """Device.ext: `atts`, App Tracking Transparency of iOS (skadnetwork.md of the IAB)."""

    atts: Any = None


class Device(msgspec.Struct, frozen=True, gc=False):
    """3.2.18 Device: the user's device, and its tracking settings."""

    lmt: Any = None
    dnt: Any = None
    ext: DeviceExt | Odd = None


class RegsExt(msgspec.Struct, frozen=True, gc=False):
    """Regs.ext: fields of OpenRTB 2.5 that 2.6 moved into `Regs`; `gpc`; a misplaced `coppa`."""

    coppa: Any = None
    gdpr: Any = None
    us_privacy: Any = None
    gpp: Any = None
    gpp_sid: Any = None
    gpc: Any = None


class Regs(msgspec.Struct, frozen=True, gc=False):
    """3.2.3 Regs: the legal signals of this request."""

    coppa: Any = None
    gdpr: Any = None
    us_privacy: Any = None
    gpp: Any = None
    gpp_sid: Any = None
    ext: RegsExt | Odd = None


class BidRequest(msgspec.Struct, frozen=True, gc=False):
    """3.2.1 BidRequest: its parts stay raw, `user` to be spliced."""

    id: Raw = ABSENT
    tmax: Any = None
    user: Raw = ABSENT
    device: Raw = ABSENT
    regs: Raw = ABSENT
    site: Raw = ABSENT
    app: Raw = ABSENT
    dooh: Raw = ABSENT


def signals_in(view: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the privacy signals among the members of `Regs`, `Device` or their `ext`."""
    return tuple(name for name in view.__struct_fields__ if name != "ext")
