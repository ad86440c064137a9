"""
The privacy signals of a bid request: `regs`, and the settings of the device.

A signal is a tuple of values: OpenRTB 2.6 and 2.5 have a place each, maybe with duplicate members,
of which some parsers read the first, others the last (RFC 8259, 4). Stages see all values.

Null says nothing, nor does an empty array: PHP's empty object.
"""

from typing import Any, Final, TypeAlias, final

from mypy_extensions import mypyc_attr

from rtb.openrtb.views import Device, DeviceExt, Regs, RegsExt
from rtb.outcome import Reason

Said: TypeAlias = tuple[Any, ...]
"""All values of a signal, as decoded, without null."""

NOTHING: Final[Said] = ()

ATTS_AUTHORISED: Final = 3
"""The only value of `device.ext.atts` that allows tracking (skadnetwork.md)."""

MOST_KEPT_LAWS: Final = 1_024
"""Of a table of decoded `regs`, whose values are few."""


@final
@mypyc_attr(acyclic=True)
class Law:
    """
    The signals of `regs` (3.2.3); shared by many requests, and immutable except for the decision.

    Attributes:
        coppa, gdpr, us_privacy, gpp, gpp_sid, gpc: All values of each.
        is_odd: `regs`, or its `ext`, is of the wrong type.
        is_silent: No signal but `us_privacy` has a value other than a plain 0 of `coppa` or `gdpr`.
        gpp_refusal: The decision by `gpp` and `gpp_sid`, which no other signal changes.
        decided_by: The policy that decided; `None`: undecided.
    """

    __slots__ = (
        "coppa",
        "decided_by",
        "gdpr",
        "gpc",
        "gpp",
        "gpp_refusal",
        "gpp_sid",
        "is_odd",
        "is_silent",
        "us_privacy",
    )

    def __init__(
        self,
        coppa: Said = NOTHING,
        gdpr: Said = NOTHING,
        us_privacy: Said = NOTHING,
        gpp: Said = NOTHING,
        gpp_sid: Said = NOTHING,
        gpc: Said = NOTHING,
        *,
        is_odd: bool = False,
    ) -> None:
        self.coppa: Final = coppa
        self.gdpr: Final = gdpr
        self.us_privacy: Final = us_privacy
        self.gpp: Final = gpp
        self.gpp_sid: Final = gpp_sid
        self.gpc: Final = gpc
        self.is_odd: Final = is_odd
        self.is_silent: Final = (
            not (gpp or gpp_sid or gpc) and _are_all(coppa, 0) and _are_all(gdpr, 0)
        )
        self.gpp_refusal = Reason.NONE
        self.decided_by: object = None


@final
@mypyc_attr(acyclic=True)
class Tracking:
    """
    The settings of a device (3.2.18); immutable.

    Attributes:
        lmt, dnt, atts: All values of each.
        is_odd: `device`, or its `ext`, is of the wrong type.
        is_limited: The device id may not be read.
        is_silent: All values of `lmt` and `atts`, if any, plainly allow tracking.
    """

    __slots__ = ("atts", "dnt", "is_limited", "is_odd", "is_silent", "lmt")

    def __init__(
        self,
        lmt: Said = NOTHING,
        dnt: Said = NOTHING,
        atts: Said = NOTHING,
        *,
        is_odd: bool = False,
    ) -> None:
        self.lmt: Final = lmt
        self.dnt: Final = dnt
        self.atts: Final = atts
        self.is_odd: Final = is_odd
        self.is_silent: Final = _are_all(lmt, 0) and _are_all(atts, ATTS_AUTHORISED)
        self.is_limited: Final = not self.is_silent and (
            any(lmt) or not all(value == ATTS_AUTHORISED for value in atts)
        )


def law_of(regs: Any) -> Law:
    """Read `regs` as decoded: a view, or any value."""
    is_odd = False
    if not isinstance(regs, Regs):
        is_odd = not says_nothing(regs)
        regs = _NO_REGS
    ext = regs.ext
    if not isinstance(ext, RegsExt):
        is_odd = is_odd or not says_nothing(ext)
        ext = _NO_REGS_EXT
    return Law(
        said(regs.coppa, ext.coppa),
        said(regs.gdpr, ext.gdpr),
        said(regs.us_privacy, ext.us_privacy),
        said(regs.gpp, ext.gpp),
        said(regs.gpp_sid, ext.gpp_sid),
        said(ext.gpc, None),
        is_odd=is_odd,
    )


def keep_law(raw_to_law: dict[bytes, Law], raw: bytes, law: Law) -> None:
    """Cache an encoded `regs`' signals; a full table is emptied."""
    if len(raw_to_law) > MOST_KEPT_LAWS:
        raw_to_law.clear()
        raw_to_law[b""] = SILENT_LAW
    raw_to_law[raw] = law


def tracking_of(device: Any) -> Tracking:
    """Read `device` as decoded: a view, or any value."""
    if not isinstance(device, Device):
        return SILENT_TRACKING if says_nothing(device) else _ODD_TRACKING
    ext = device.ext
    atts = None
    is_odd = False
    if isinstance(ext, DeviceExt):
        atts = ext.atts
    else:
        is_odd = not says_nothing(ext)
    if device.lmt is None and device.dnt is None and atts is None and not is_odd:
        return SILENT_TRACKING
    return Tracking(said(device.lmt, None), said(device.dnt, None), said(atts, None), is_odd=is_odd)


def said(value: Any, value_25: Any) -> Said:
    """Return the values from the places of OpenRTB 2.6 and 2.5."""
    if value is None:
        return NOTHING if value_25 is None else (value_25,)
    return (value,) if value_25 is None else (value, value_25)


def says_nothing(value: Any) -> bool:
    """Tell whether an object's value is null, or an empty array."""
    return value is None or (isinstance(value, list) and not value)


def _are_all(values: Said, plain: int) -> bool:
    # False and -0.0 equal 0, but are not plain.
    return not values or all(type(value) is int and value == plain for value in values)


SILENT_LAW: Final = Law()
"""For a request without `regs`."""

SILENT_TRACKING: Final = Tracking()
"""For a request without `device`, or with one that sets nothing."""

_ODD_TRACKING: Final = Tracking(is_odd=True)
_NO_REGS: Final = Regs()
_NO_REGS_EXT: Final = RegsExt()
