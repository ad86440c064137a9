"""
Does GDPR apply to a request, and does the person's TC string permit us?

Whether it applies is read here; TC strings are not read yet, so that it
applies is a refusal.
"""

from typing import Any

from rtb.consent.signal import NO, UNREADABLE, YES, signal_of
from rtb.outcome import Reason

_NONE = Reason.NONE


def refusal_of_gdpr(
    gdpr: Any, gdpr_25: Any, consent: Any, consent_25: Any, when_unsaid: bool
) -> Reason:
    """
    Decide by `regs.gdpr` and `user.consent`.

    Args:
        gdpr: As decoded from `regs`.
        gdpr_25: As decoded from `regs.ext`.
        consent: As decoded from `user`. An empty string says as little as none.
        consent_25: As decoded from `user.ext`.
        when_unsaid: Whether it applies where no one says anything.
    """
    said, said_25 = signal_of(gdpr), signal_of(gdpr_25)
    if (
        said is UNREADABLE
        or said_25 is UNREADABLE
        or not (consent is None or isinstance(consent, str))
        or not (consent_25 is None or isinstance(consent_25, str))
    ):
        return Reason.SIGNAL_UNREADABLE
    if said is YES or said_25 is YES:
        return Reason.TCF_UNREAD
    if said is NO or said_25 is NO:
        return _NONE
    # Not said. A TC string is there because someone thought that it applies.
    return Reason.TCF_UNREAD if consent or consent_25 or when_unsaid else _NONE
