"""
May we enrich this request, by what it says itself?

Engineering reading of the specifications, strict by default. Each signal is
read in both its places, OpenRTB 2.6's and the `ext` of 2.5; where they
disagree the stricter wins. Privacy fails closed: a signal that is there and
can't be read refuses, and so does a law whose consent string this version
does not read yet.

    signal        refuses
    coppa         1
    device.lmt    1, unless configured to take only the device id away
    device.dnt    1 where configured; otherwise ignored, as Prebid does
    gpc           "1"
    us_privacy    opt-out of sale, or malformed (configurable)
    gdpr          1; or not said, while there is a TC string or it is configured so
    gpp_sid       2, 6, and 7 on: a section that we would have to read
    any of these  of a type that it can't have

What the person told us earlier is no business of this package: that comes back
with the lookup, and wins.
"""

from dataclasses import dataclass

from rtb.consent.gdpr import refusal_of_gdpr
from rtb.consent.gpp import refusal_of_gpp
from rtb.consent.signal import UNREADABLE, YES, Signal, signal_of, signal_of_gpc
from rtb.consent.us_privacy import refusal_of_us_privacy
from rtb.openrtb.views import Device, Regs, RegsExt, Request, User, UserExt
from rtb.outcome import Reason


@dataclass(frozen=True, slots=True)
class Policy:
    """What a deployment has decided. No defaults here: `rtb.settings` documents them."""

    lmt_refuses: bool
    dnt_refuses: bool
    us_privacy_malformed_refuses: bool
    gdpr_when_unsaid: bool


_NO_REGS = Regs()
_NO_REGS_EXT = RegsExt()
_NO_DEVICE = Device()
_NO_USER = User()
_NO_USER_EXT = UserExt()

# Looked up once: see rtb.consent.signal.
_NONE, _COPPA, _GPC, _LMT, _DNT, _UNREADABLE = (
    Reason.NONE,
    Reason.COPPA,
    Reason.GPC,
    Reason.LMT,
    Reason.DNT,
    Reason.SIGNAL_UNREADABLE,
)


def refusal(request: Request, policy: Policy) -> Reason:
    """Return why a request may not be enriched; `Reason.NONE` permits it."""
    regs = _NO_REGS if request.head.regs is None else request.head.regs
    device = _NO_DEVICE if request.device is None else request.device
    user = _NO_USER if request.user is None else request.user
    user_ext = _NO_USER_EXT if request.user_ext is None else request.user_ext
    regs_ext = regs.ext if isinstance(regs, Regs) else None
    regs_ext = _NO_REGS_EXT if regs_ext is None else regs_ext
    if not (
        isinstance(regs, Regs)
        and isinstance(regs_ext, RegsExt)
        and isinstance(device, Device)
        and isinstance(user, User)
        and isinstance(user_ext, UserExt)
    ):
        return _UNREADABLE

    return (
        _refusal_of_flag(signal_of(regs.coppa), _COPPA)
        or _refusal_of_flag(signal_of_gpc(regs_ext.gpc), _GPC)
        or _refusal_of_device(device, policy)
        or refusal_of_us_privacy(regs.us_privacy, policy.us_privacy_malformed_refuses)
        or refusal_of_us_privacy(regs_ext.us_privacy, policy.us_privacy_malformed_refuses)
        or refusal_of_gdpr(
            regs.gdpr, regs_ext.gdpr, user.consent, user_ext.consent, policy.gdpr_when_unsaid
        )
        or refusal_of_gpp(regs.gpp, regs.gpp_sid)
        or refusal_of_gpp(regs_ext.gpp, regs_ext.gpp_sid)
    )


def _refusal_of_device(device: Device, policy: Policy) -> Reason:
    lmt = signal_of(device.lmt)
    # Unreadable refuses even where the readable would not.
    if policy.lmt_refuses or lmt is UNREADABLE:
        refusal_of_lmt = _refusal_of_flag(lmt, _LMT)
        if refusal_of_lmt:
            return refusal_of_lmt
    return _refusal_of_flag(signal_of(device.dnt), _DNT) if policy.dnt_refuses else _NONE


def _refusal_of_flag(signal: Signal, reason: Reason) -> Reason:
    """Refuse a flag that is set, for its own reason, and one that can't be read."""
    if signal is YES:
        return reason
    return _UNREADABLE if signal is UNREADABLE else _NONE
