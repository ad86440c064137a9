"""
May we enrich this request, by its own privacy signals?

An engineer's reading of the specifications, strict by default. Signals are read in the places of
OpenRTB 2.6 and 2.5 (`ext`), and in every copy; the stricter value wins. Privacy fails closed:
unreadable signals refuse, as does a law without its consent string.

    signal        refuses
    coppa         1
    device.lmt    1, unless configured to remove only the device id
    atts          0, 1 or 2 in `device.ext`, as lmt 1 does, whatever lmt is
    device.dnt    1 where configured; otherwise ignored, as Prebid does
    gpc           "1"
    us_privacy    opt-out of sale, or malformed (configurable)
    gdpr          1, unless a TC string consents to us and our purposes; an absent flag
                  likewise where there is a TC string, or by configuration
    gpp_sid       a section that does not permit, is missing, or has no rule here; if no
                  section is named, each section of the string (configurable)
    any of these  of the wrong type, dnt only where configured

Recorded opt-outs come with the lookup, and win.
"""

from dataclasses import dataclass

from rtb.consent.gdpr import refusal_of_gdpr
from rtb.consent.gpp import refusal_of_gpp
from rtb.consent.signal import UNREADABLE, YES, signal_of, signal_of_gpc
from rtb.consent.tcf import Vendor
from rtb.consent.us_privacy import refusal_of_us_privacy
from rtb.openrtb.request import Request
from rtb.openrtb.signals import ATTS_AUTHORISED, Law, Said, Tracking
from rtb.outcome import Reason


@dataclass(frozen=True, slots=True)
class Policy:
    """A deployment's choices; see `rtb.settings`."""

    lmt_refuses: bool
    dnt_refuses: bool
    us_privacy_malformed_refuses: bool
    gdpr_when_unsaid: bool
    vendor: Vendor
    gpp_without_sid_refuses: bool
    gpp_every_section: bool
    gpp_personal_data_2_permits: bool


# Once: see rtb.consent.signal.
_NONE, _COPPA, _GPC, _LMT, _DNT, _UNREADABLE = (
    Reason.NONE,
    Reason.COPPA,
    Reason.GPC,
    Reason.LMT,
    Reason.DNT,
    Reason.SIGNAL_UNREADABLE,
)


def refusal(request: Request, policy: Policy) -> Reason:
    """Return the refusal; `Reason.NONE` permits."""
    if request.is_odd:
        return _UNREADABLE
    regs = request.regs
    # Most requests have only us_privacy.
    if (
        regs.is_silent
        and request.tracking.is_silent
        and not request.consents
        and not policy.gdpr_when_unsaid
        and not policy.dnt_refuses
    ):
        return refusal_of_us_privacies(regs.us_privacy, policy)
    return refusal_in_detail(request, policy)


def refusal_in_detail(request: Request, policy: Policy) -> Reason:
    """Check each signal of a request that is not odd: `refusal` without its shortcut."""
    regs = request.regs
    return (
        refusal_of_flags(regs.coppa, _COPPA)
        or refusal_of_gpc(regs.gpc)
        or refusal_of_tracking(request.tracking, policy)
        or refusal_of_us_privacies(regs.us_privacy, policy)
        or refusal_of_gdpr(
            regs.gdpr, request.consents, when_unsaid=policy.gdpr_when_unsaid, vendor=policy.vendor
        )
        or refusal_of_sections(regs, policy)
    )


def refusal_of_sections(regs: Law, policy: Policy) -> Reason:
    """Decide by the sections of GPP; once for all requests that share these `regs`."""
    if regs.decided_by is not policy:
        regs.gpp_refusal = refusal_of_gpps(regs.gpp, regs.gpp_sid, policy)
        regs.decided_by = policy
    return regs.gpp_refusal


def refusal_of_gpps(gpps: Said, gpp_sids: Said, policy: Policy) -> Reason:
    """Decide by every GPP string of a request, and every list of sections."""
    return refusal_of_gpp(
        gpps,
        gpp_sids,
        policy.vendor,
        without_sid_refuses=policy.gpp_without_sid_refuses,
        every_section=policy.gpp_every_section,
        personal_data_2_permits=policy.gpp_personal_data_2_permits,
    )


def refusal_of_tracking(tracking: Tracking, policy: Policy) -> Reason:
    """Decide by the settings of the device."""
    # Unreadable lmt or atts refuse even where the policy lets them pass.
    of_lmt, of_atts = (refusal_of_flags(tracking.lmt, _LMT), _refusal_of_atts(tracking.atts))
    if of_lmt is _UNREADABLE or of_atts is _UNREADABLE:
        return _UNREADABLE
    if policy.lmt_refuses and (of_lmt or of_atts):
        return _LMT
    return refusal_of_flags(tracking.dnt, _DNT) if policy.dnt_refuses else _NONE


def _refusal_of_atts(values: Said) -> Reason:
    refusal = _NONE
    for value in values:
        # Not isinstance: bool is wrong.
        if (type(value) is not int and type(value) is not float) or value not in _ATTS:
            return _UNREADABLE
        if value != ATTS_AUTHORISED:
            refusal = _LMT
    return refusal


_ATTS = (0, 1, 2, ATTS_AUTHORISED)


def refusal_of_flags(values: Said, reason: Reason) -> Reason:
    """Return `reason` if a flag is set; `SIGNAL_UNREADABLE` if any can't be read."""
    refusal = _NONE
    for value in values:
        signal = signal_of(value)
        if signal is UNREADABLE:
            return _UNREADABLE
        if signal is YES:
            refusal = reason
    return refusal


def refusal_of_gpc(values: Said) -> Reason:
    """Return `GPC` if it is set; `SIGNAL_UNREADABLE` if any value can't be read."""
    refusal = _NONE
    for value in values:
        signal = signal_of_gpc(value)
        if signal is UNREADABLE:
            return _UNREADABLE
        if signal is YES:
            refusal = _GPC
    return refusal


def refusal_of_us_privacies(values: Said, policy: Policy) -> Reason:
    """Decide by every US Privacy string of a request."""
    for value in values:
        refusal = refusal_of_us_privacy(value, policy.us_privacy_malformed_refuses)
        if refusal:
            return refusal
    return _NONE
