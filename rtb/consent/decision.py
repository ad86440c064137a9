"""
May we enrich this request, by what it says itself?

Engineering reading of the specifications, strict by default. Each signal is
read in both its places, OpenRTB 2.6's and the `ext` of 2.5; where they
disagree the stricter wins. Privacy fails closed: a signal that is there and
can't be read refuses, and so does a law that applies while the person's word on
it is missing.

    signal        refuses
    coppa         1
    device.lmt    1, unless configured to take only the device id away
    device.dnt    1 where configured; otherwise ignored, as Prebid does
    gpc           "1"
    us_privacy    opt-out of sale, or malformed (configurable)
    gdpr          1, unless a TC string consents to us and our purposes; so does not
                  said, while there is a TC string or it is configured so
    gpp_sid       a section that does not permit, is not there, or has no rule here
    any of these  of a type that it can't have

What the person told us earlier is no business of this package: that comes back
with the lookup, and wins.
"""

from dataclasses import dataclass

from rtb.consent.gdpr import refusal_of_gdpr
from rtb.consent.gpp import refusal_of_gpp
from rtb.consent.signal import UNREADABLE, YES, Signal, signal_of, signal_of_gpc
from rtb.consent.tcf import Vendor
from rtb.consent.us_privacy import refusal_of_us_privacy
from rtb.openrtb.request import Request
from rtb.openrtb.views import Device
from rtb.outcome import Reason


@dataclass(frozen=True, slots=True)
class Policy:
    """What a deployment has decided. No defaults here: `rtb.settings` documents them."""

    lmt_refuses: bool
    dnt_refuses: bool
    us_privacy_malformed_refuses: bool
    gdpr_when_unsaid: bool
    vendor: Vendor


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
    if _is_quiet(request, policy):
        return refusal_of_us_privacy(
            regs.us_privacy, policy.us_privacy_malformed_refuses
        ) or refusal_of_us_privacy(regs.ext_us_privacy, policy.us_privacy_malformed_refuses)
    return refusal_in_detail(request, policy)


def refusal_in_detail(request: Request, policy: Policy) -> Reason:
    """Ask each signal of a request that is not odd: what `refusal` does, without its short cut."""
    regs = request.regs
    return (
        _refusal_of_flag(signal_of(regs.coppa), _COPPA)
        or _refusal_of_flag(signal_of_gpc(regs.ext_gpc), _GPC)
        or _refusal_of_device(request.device, policy)
        or refusal_of_us_privacy(regs.us_privacy, policy.us_privacy_malformed_refuses)
        or refusal_of_us_privacy(regs.ext_us_privacy, policy.us_privacy_malformed_refuses)
        or refusal_of_gdpr(
            regs.gdpr,
            regs.ext_gdpr,
            request.consent,
            request.ext_consent,
            when_unsaid=policy.gdpr_when_unsaid,
            vendor=policy.vendor,
        )
        or refusal_of_gpp(regs.gpp, regs.ext_gpp, regs.gpp_sid, regs.ext_gpp_sid, policy.vendor)
    )


def _is_quiet(request: Request, policy: Policy) -> bool:
    """
    Say whether all signals but `us_privacy` are absent, or a plain 0.

    So they are in most requests, which are spared asking each signal in turn.
    Whatever is not plainly quiet is for those who ask.
    """
    regs, device = request.regs, request.device
    return (
        # By identity, for False equals 0 and is none; neither is -0.0.
        (regs.coppa is None or regs.coppa is _ZERO)
        and (regs.gdpr is None or regs.gdpr is _ZERO)
        and (regs.ext_gdpr is None or regs.ext_gdpr is _ZERO)
        and (device.lmt is None or device.lmt is _ZERO)
        and regs.gpp_sid is None
        and regs.gpp is None
        and regs.ext_gpp_sid is None
        and regs.ext_gpp is None
        and regs.ext_gpc is None
        and request.consent is None
        and request.ext_consent is None
        and not policy.gdpr_when_unsaid
        and not policy.dnt_refuses
    )


_ZERO = 0


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
