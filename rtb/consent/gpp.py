"""
Which sections of the Global Privacy Platform apply to a request?

`gpp_sid` says so. GPP strings are not read yet, so that a section applies
which we would have to read is a refusal.
"""

from typing import Any

from rtb.outcome import Reason

_TCF_EU = 2
_US_PRIVACY = 6
_FIRST_US_SECTION = 7
"""7 to 27 are US sections; one numbered later is one that we can't know, and refuses too."""

_NONE = Reason.NONE


def refusal_of_gpp(gpp: Any, gpp_sid: Any) -> Reason:
    """
    Decide by `gpp` and `gpp_sid` of `regs` or of `regs.ext`.

    Args:
        gpp: As decoded. Of no effect without `gpp_sid`, but text if it is there.
        gpp_sid: As decoded: ids of the sections that apply. 0 and -1 are how
            senders write "none".
    """
    if gpp is None and gpp_sid is None:
        return _NONE
    if not (gpp is None or isinstance(gpp, str)) or not (
        gpp_sid is None or isinstance(gpp_sid, list)
    ):
        return Reason.SIGNAL_UNREADABLE
    sections = gpp_sid or ()
    if any(type(section) not in (int, float) for section in sections):
        return Reason.SIGNAL_UNREADABLE
    if any(s in (_TCF_EU, _US_PRIVACY) or s >= _FIRST_US_SECTION for s in sections):
        return Reason.GPP_UNREAD
    return _NONE
