"""
May we enrich this request, by what it says itself?

Engineering reading of the specifications, strict by default. Each signal is
read in both its places, OpenRTB 2.6's and the `ext` of 2.5, and in every copy; where they
disagree the stricter wins. Privacy fails closed: a signal that is there and
can't be read refuses, and so does a law that applies while the person's word on
it is missing.

    signal        refuses
    coppa         1
    device.lmt    1, unless configured to take only the device id away
    atts          0, 1 or 2 of `device.ext`, as lmt 1 does and whatever lmt says
    device.dnt    1 where configured; otherwise ignored, as Prebid does
    gpc           "1"
    us_privacy    opt-out of sale, or malformed (configurable)
    gdpr          1, unless a TC string consents to us and our purposes; so does not
                  said, while there is a TC string or it is configured so
    gpp_sid       a section that does not permit, is not there, or has no rule here; where no
                  section is named, each that the string has (configurable)
    any of these  of a type that it can't have

What the person told us earlier is no business of this package: that comes back
with the lookup, and wins.
"""

from dataclasses import dataclass

from rtb.consent.gdpr import refusal_of_gdpr
from rtb.consent.gpp import refusal_of_gpp
from rtb.consent.signal import UNREADABLE, YES, signal_of, signal_of_gpc
from rtb.consent.tcf import Vendor
from rtb.consent.us_privacy import refusal_of_us_privacy
from rtb.openrtb.request import Request
from rtb.openrtb.signals import ATTS_AUTHORISED, Said, Tracking
from rtb.outcome import Reason


@dataclass(frozen=True, slots=True)
class Policy:
    """What a deployment has decided. No defaults here: `rtb.settings` documents them."""

    lmt_refuses: bool
    dnt_refuses: bool
    us_privacy_malformed_refuses: bool
    gdpr_when_unsaid: bool
    vendor: Vendor
    gpp_without_sid_refuses: bool
    gpp_personal_data_2_permits: bool


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
    if request.is_odd:
        return _UNREADABLE
    regs = request.regs
    # Of most requests nothing is said but us_privacy: they are spared asking each signal in turn.
    if (
        regs.is_silent
        and request.tracking.is_silent
        and not request.consents
        and not policy.gdpr_when_unsaid
        and not policy.dnt_refuses
    ):
        return _refusal_of_us_privacy(regs.us_privacy, policy)
    return refusal_in_detail(request, policy)


def refusal_in_detail(request: Request, policy: Policy) -> Reason:
    """Ask each signal of a request that is not odd: what `refusal` does, without its short cut."""
    regs = request.regs
    return (
        _refusal_of_flags(regs.coppa, _COPPA)
        or _refusal_of_gpc(regs.gpc)
        or _refusal_of_tracking(request.tracking, policy)
        or _refusal_of_us_privacy(regs.us_privacy, policy)
        or refusal_of_gdpr(
            regs.gdpr, request.consents, when_unsaid=policy.gdpr_when_unsaid, vendor=policy.vendor
        )
        or refusal_of_gpp(
            regs.gpp,
            regs.gpp_sid,
            policy.vendor,
            without_sid_refuses=policy.gpp_without_sid_refuses,
            personal_data_2_permits=policy.gpp_personal_data_2_permits,
        )
    )


def _refusal_of_tracking(tracking: Tracking, policy: Policy) -> Reason:
    # Unreadable refuses even where the readable would not.
    of_lmt, of_atts = (_refusal_of_flags(tracking.lmt, _LMT), _refusal_of_atts(tracking.atts))
    if of_lmt is _UNREADABLE or of_atts is _UNREADABLE:
        return _UNREADABLE
    if policy.lmt_refuses and (of_lmt or of_atts):
        return _LMT
    return _refusal_of_flags(tracking.dnt, _DNT) if policy.dnt_refuses else _NONE


def _refusal_of_atts(values: Said) -> Reason:
    refusal = _NONE
    for value in values:
        # Not isinstance: true and false are of a type that the field can't have.
        if (type(value) is not int and type(value) is not float) or value not in _ATTS:
            return _UNREADABLE
        if value != ATTS_AUTHORISED:
            refusal = _LMT
    return refusal


_ATTS = (0, 1, 2, ATTS_AUTHORISED)


def _refusal_of_flags(values: Said, reason: Reason) -> Reason:
    """Refuse a flag that is set, for its own reason, and one that can't be read."""
    refusal = _NONE
    for value in values:
        signal = signal_of(value)
        if signal is UNREADABLE:
            return _UNREADABLE
        if signal is YES:
            refusal = reason
    return refusal


def _refusal_of_gpc(values: Said) -> Reason:
    refusal = _NONE
    for value in values:
        signal = signal_of_gpc(value)
        if signal is UNREADABLE:
            return _UNREADABLE
        if signal is YES:
            refusal = _GPC
    return refusal


def _refusal_of_us_privacy(values: Said, policy: Policy) -> Reason:
    for value in values:
        refusal = refusal_of_us_privacy(value, policy.us_privacy_malformed_refuses)
        if refusal:
            return refusal
    return _NONE
