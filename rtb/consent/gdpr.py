"""
Does GDPR apply, and does the person's TC string permit us?

`rtb.consent.tcf` reads the string. Of several strings, in placements or copies, all must permit.
"""

from collections.abc import Sequence
from typing import Any

from rtb.consent.signal import NO, UNREADABLE, YES, signal_of
from rtb.consent.tcf import Vendor, refusal_of_tc_string
from rtb.outcome import Reason

# Once: see rtb.consent.signal.
_NONE, _ODD, _MISSING = Reason.NONE, Reason.SIGNAL_UNREADABLE, Reason.TCF_MISSING


def refusal_of_gdpr(
    gdprs: Sequence[Any], consents: Sequence[Any], *, when_unsaid: bool, vendor: Vendor
) -> Reason:
    """
    Decide by `regs.gdpr` and `user.consent`.

    Args:
        gdprs: All values of the request, as decoded.
        consents: Likewise. An empty string counts as absent.
        when_unsaid: GDPR applies without flag and string.
        vendor: Our entry on the Global Vendor List.
    """
    for consent in consents:
        if not isinstance(consent, str):
            return _ODD
    is_yes = is_no = False
    for gdpr in gdprs:
        said = signal_of(gdpr)
        if said is UNREADABLE:
            return _ODD
        is_yes |= said is YES
        is_no |= said is NO
    if is_no and not is_yes:
        return _NONE
    is_there = False
    # Without a flag, a TC string's sender assumed GDPR.
    for n, consent in enumerate(consents):
        if consent and consent not in consents[:n]:
            is_there = True
            refusal = refusal_of_tc_string(consent, vendor)
            if refusal:
                return refusal
    return _NONE if is_there or not (is_yes or when_unsaid) else _MISSING
