"""
Does GDPR apply to a request, and does the person's TC string permit us?

Whether it applies is read here, the string in `rtb.consent.tcf`. Of two
different strings, one in each placement, both must permit.
"""

from typing import Any

from rtb.consent.signal import NO, UNREADABLE, YES, signal_of
from rtb.consent.tcf import Vendor, refusal_of_tc_string
from rtb.outcome import Reason

# Looked up once: see rtb.consent.signal.
_NONE, _ODD, _MISSING = Reason.NONE, Reason.SIGNAL_UNREADABLE, Reason.TCF_MISSING


def refusal_of_gdpr(
    gdpr: Any, gdpr_25: Any, consent: Any, consent_25: Any, *, when_unsaid: bool, vendor: Vendor
) -> Reason:
    """
    Decide by `regs.gdpr` and `user.consent`.

    Args:
        gdpr: As decoded from `regs`.
        gdpr_25: As decoded from `regs.ext`.
        consent: As decoded from `user`. An empty string says as little as none.
        consent_25: As decoded from `user.ext`.
        when_unsaid: Whether it applies where no one says anything.
        vendor: Who we are.
    """
    said, said_25 = signal_of(gdpr), signal_of(gdpr_25)
    if (
        said is UNREADABLE
        or said_25 is UNREADABLE
        or not (consent is None or isinstance(consent, str))
        or not (consent_25 is None or isinstance(consent_25, str))
    ):
        return _ODD
    if said is not YES and said_25 is not YES and (said is NO or said_25 is NO):
        return _NONE
    if not consent and not consent_25:
        return _MISSING if when_unsaid or said is YES or said_25 is YES else _NONE
    # Not said, a TC string is there because someone thought that it applies.
    refusal = refusal_of_tc_string(consent, vendor) if consent else _NONE
    if not refusal and consent_25 and consent_25 != consent:
        refusal = refusal_of_tc_string(consent_25, vendor)
    return refusal
