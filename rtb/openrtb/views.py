"""
The bid request as we see it: only the fields that we read, whatever stands in them.

Senders err, and garbage in a field must not cost them the auction. So every
field accepts every JSON value: a view is what the specification says, or
`Odd`. Code that reads a field says what it does with an odd one: consent
refuses, the rest looks away. Decoding therefore fails only where the body is
not JSON, or not an object, or writes a number that no double holds.

`Raw` is a value left as the bytes that came; what is spliced back later stands
there untouched. A member that is absent, a `Raw` one too, is the default. Of
two members of one name the later is read, as in nearly every parser that will
read the request after us (RFC 8259, section 4, leaves it open); what the earlier
says counts, too, and is read by `rtb.openrtb.copies`.

The sections are those of the OpenRTB 2.6 specification; what 2.5 carried in
`ext` is read there too.
"""

from typing import Any, TypeAlias

import msgspec
from msgspec import Raw

OddScalar: TypeAlias = int | float | str | bool | None
Odd: TypeAlias = OddScalar | list[Any]
"""What may stand where an object belongs, null included."""

OddList: TypeAlias = OddScalar | dict[str, Any]
"""What may stand where an array belongs, null included."""

ABSENT = Raw()
"""The `Raw` of a member that is not there; null is one that is there."""


class UidExt(msgspec.Struct, frozen=True, gc=False):
    """3.2.28 UID.ext, as Prebid's adapters fill it."""

    stype: Any = None
    provider: Any = None


class Uid(msgspec.Struct, frozen=True, gc=False):
    """3.2.28 UID: one id of the user under one source."""

    id: Any = None
    ext: UidExt | Odd = None


class Eid(msgspec.Struct, frozen=True, gc=False):
    """3.2.27 EID: the ids that one identity source gave this user."""

    source: Any = None
    uids: list[Uid | Odd] | OddList = None


Eids: TypeAlias = list[Eid | Odd] | OddList


class UserExt(msgspec.Struct, frozen=True, gc=False):
    """User.ext: where OpenRTB 2.5 has what 2.6 took into `User`."""

    consent: Any = None
    eids: Eids = None


class User(msgspec.Struct, frozen=True, gc=False):
    """3.2.20 User: the human whose request this is."""

    consent: Any = None
    eids: Eids = None
    data: Raw = ABSENT
    ext: UserExt | Odd = None


class DataExt(msgspec.Struct, frozen=True, gc=False):
    """Data.ext: `segtax`, the taxonomy of its segments' ids (segtax.md of the IAB)."""

    segtax: Any = None


class Data(msgspec.Struct, frozen=True, gc=False):
    """3.2.21 Data, as far as it takes to know whose it is."""

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
    """3.2.18 Device: what the user holds, and its settings on tracking."""

    lmt: Any = None
    dnt: Any = None
    ext: DeviceExt | Odd = None


class RegsExt(msgspec.Struct, frozen=True, gc=False):
    """Regs.ext: where OpenRTB 2.5 has what 2.6 took into `Regs`; `gpc`; and `coppa`, misplaced."""

    coppa: Any = None
    gdpr: Any = None
    us_privacy: Any = None
    gpp: Any = None
    gpp_sid: Any = None
    gpc: Any = None


class Regs(msgspec.Struct, frozen=True, gc=False):
    """3.2.3 Regs: what the law says of this request."""

    coppa: Any = None
    gdpr: Any = None
    us_privacy: Any = None
    gpp: Any = None
    gpp_sid: Any = None
    ext: RegsExt | Odd = None


class Publisher(msgspec.Struct, frozen=True, gc=False):
    """3.2.15 Publisher: whose inventory it is."""

    id: Any = None


class Inventory(msgspec.Struct, frozen=True, gc=False):
    """3.2.13 Site, 3.2.14 App, 3.2.32 DOOH: where the impression is."""

    publisher: Publisher | Odd = None


class BidRequest(msgspec.Struct, frozen=True, gc=False):
    """3.2.1 BidRequest: its parts stay raw, `user` because it is what we splice."""

    id: Raw = ABSENT
    tmax: Any = None
    user: Raw = ABSENT
    device: Raw = ABSENT
    regs: Raw = ABSENT
    site: Raw = ABSENT
    app: Raw = ABSENT
    dooh: Raw = ABSENT


def signals_in(view: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the members of `Regs`, `Device` or the `ext` of either that are privacy signals."""
    return tuple(name for name in view.__struct_fields__ if name != "ext")
