"""
The privacy signals of a request: the value of each, and whether it refuses.

The functions of `rtb.consent.decision` decide. Each is called once, although the bid path stops at
the first refusal. A TC string is judged for one purpose at a time, a GPP string for one section.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from rtb.consent.decision import (
    Policy,
    refusal_of_flags,
    refusal_of_gpc,
    refusal_of_gpps,
    refusal_of_sections,
    refusal_of_tracking,
    refusal_of_us_privacies,
)
from rtb.consent.gdpr import refusal_of_gdpr
from rtb.consent.gpp import NO_LAWS, ids_in_header
from rtb.consent.tcf import PURPOSES, Vendor, refusal_of_tc_string
from rtb.openrtb.request import Request
from rtb.openrtb.signals import NOTHING, Said, Tracking
from rtb.outcome import Reason
from segments.model.explained_bid import Finding

_MOST_SHOWN_CHARS: Final = 4
"""A longer text may be a consent string, nearly unique to a person."""
_PERMITS: Final = "permits"
NOT_SAID: Final = "not said"


class Leaf(NamedTuple):
    """A signal, or signals that are decided together: the refusal, and its findings."""

    reason: Reason
    findings: tuple[Finding, ...]


def leaves_of(request: Request, policy: Policy) -> list[Leaf]:
    """Return the signals of a request, in the order of the bid path's questions."""
    regs = request.regs
    leaves = [Leaf(*_odd())] if request.is_odd else []
    leaves += [
        _leaf("coppa", regs.coppa, refusal_of_flags(regs.coppa, Reason.COPPA)),
        _leaf("gpc", regs.gpc, refusal_of_gpc(regs.gpc)),
        _of_tracking(request.tracking, policy),
        _leaf("us_privacy", regs.us_privacy, refusal_of_us_privacies(regs.us_privacy, policy)),
        _of_gdpr(request, policy),
        _of_gpp(request, policy),
    ]
    return leaves


def _odd() -> tuple[Reason, tuple[Finding, ...]]:
    reason = Reason.SIGNAL_UNREADABLE
    text = f"of the wrong type, so its signals are lost: {reason}"
    return reason, (Finding("user, regs or device", says=text),)


def _leaf(what: str, values: Said, reason: Reason) -> Leaf:
    return Leaf(reason, (_finding(what, values, reason),))


def _finding(what: str, values: Sequence[Any], reason: Reason) -> Finding:
    if not values and not reason:
        return Finding(what, says=NOT_SAID, counts=False)
    if not values:
        return Finding(what, says=f"{NOT_SAID}: {reason}")
    shown = ", ".join(dict.fromkeys(map(_shown, values)))
    return Finding(what, says=f"{shown}: {reason or _PERMITS}")


def _of_tracking(tracking: Tracking, policy: Policy) -> Leaf:
    alone = {
        "lmt": (tracking.lmt, Tracking(lmt=tracking.lmt)),
        "atts": (tracking.atts, Tracking(atts=tracking.atts)),
        "dnt": (tracking.dnt, Tracking(dnt=tracking.dnt)),
    }
    findings = [
        _finding(name, values, refusal_of_tracking(only, policy))
        for name, (values, only) in alone.items()
    ]
    return Leaf(refusal_of_tracking(tracking, policy), tuple(findings))


def _of_gdpr(request: Request, policy: Policy) -> Leaf:
    gdprs = request.regs.gdpr
    reason = refusal_of_gdpr(
        gdprs, request.consents, when_unsaid=policy.gdpr_when_unsaid, vendor=policy.vendor
    )
    applies = refusal_of_gdpr(
        gdprs, NOTHING, when_unsaid=policy.gdpr_when_unsaid, vendor=policy.vendor
    )
    needs = "a TC string must permit" if applies is Reason.TCF_MISSING else applies
    flag = _finding("gdpr", gdprs, applies)
    if needs:
        flag = msgspec.structs.replace(flag, says=flag.says.replace(str(applies), str(needs)))
    texts = dict.fromkeys(text for text in request.consents if isinstance(text, str) and text)
    strings = [
        Finding("TC string", says=_tc_string_in_words(text, policy.vendor), counts=bool(reason))
        for text in texts
    ]
    if not strings:
        strings = [_finding("TC string", request.consents, reason)]
    return Leaf(reason, (flag, *strings))


def _tc_string_in_words(text: str, vendor: Vendor) -> str:
    refusal = refusal_of_tc_string(text, vendor)
    if refusal is Reason.TCF_UNREADABLE:
        return str(refusal)
    # Without purposes, a string needs only consent and disclosure of the vendor.
    of_vendor = refusal_of_tc_string(text, vendor._replace(purposes=0))
    purposes = [
        f"{purpose} {_yes_or(refusal_of_tc_string(text, only), of_vendor)}"
        for purpose in PURPOSES
        if (only := _for_purpose(vendor, purpose)).purposes & vendor.purposes
    ]
    return (
        f"vendor {vendor.number} {of_vendor or 'yes'}; purposes {', '.join(purposes)}:"
        f" {refusal or _PERMITS}"
    )


def _for_purpose(vendor: Vendor, purpose: int) -> Vendor:
    return Vendor.of(vendor.number, (purpose,), vendor.disclosed_from_ds)


def _yes_or(reason: Reason, of_vendor: Reason) -> str:
    return "yes" if not reason or reason is of_vendor else str(reason)


def _of_gpp(request: Request, policy: Policy) -> Leaf:
    regs = request.regs
    reason = refusal_of_sections(regs, policy)
    findings = [_finding("gpp, gpp_sid", _named(regs.gpp, regs.gpp_sid), reason)]
    for text in dict.fromkeys(text for text in regs.gpp if isinstance(text, str) and text):
        for id_ in ids_in_header(text.partition("~")[0]) or ():
            if id_ not in NO_LAWS:
                alone = refusal_of_gpps((text,), ([id_],), policy)
                findings.append(Finding(f"gpp section {id_}", says=alone or _PERMITS))
    return Leaf(reason, tuple(findings))


def _named(gpps: Said, gpp_sids: Said) -> list[str]:
    """Return the values of `gpp` and `gpp_sid`, without the strings."""
    strings = [_shown(text) for text in gpps]
    return strings + [f"applies {_shown_list(sids)}" for sids in gpp_sids]


def _shown_list(value: Any) -> str:
    return f"[{', '.join(map(_shown, value))}]" if isinstance(value, list) else _shown(value)


def _shown(value: Any) -> str:
    """Return a value if it is a flag; otherwise its type and its length."""
    if isinstance(value, str):
        is_short = len(value) <= _MOST_SHOWN_CHARS
        return f'"{value}"' if is_short else f"a text of {len(value)} characters"
    if isinstance(value, bool | int | float):
        return str(value)[:_MOST_SHOWN_NUMBER]
    return "an array" if isinstance(value, list) else "an object"


_MOST_SHOWN_NUMBER: Final = 8
