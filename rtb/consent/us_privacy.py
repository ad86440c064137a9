"""
The US Privacy string: four characters of version, notice, opt-out of sale, LSPA.

Only the third decides: `Y` is a person who opted out of sale. `1---` says that
the law does not apply, and `N` that the person did not opt out. The IAB has
retired the string in favour of GPP; senders have not.
"""

from itertools import product
from typing import Any

from rtb.outcome import Reason

_CHARS = 4
_NONE = Reason.NONE
_TEXT_TO_REFUSAL = {
    f"1{notice}{sale}{lspa}": Reason.US_PRIVACY_OPT_OUT if sale in "Yy" else _NONE
    for notice, sale, lspa in product("YNyn-", repeat=3)
}
"""All 125 of them."""


def refusal_of_us_privacy(value: Any, malformed_refuses: bool) -> Reason:
    """
    Decide by `regs.us_privacy` or `regs.ext.us_privacy`.

    Args:
        value: As decoded. An empty string says as little as none.
        malformed_refuses: Whether a string that is none of this form refuses.
            A value that is not even a string always does.
    """
    if value is None or value == "":
        return _NONE
    if not isinstance(value, str):
        return Reason.SIGNAL_UNREADABLE
    # The length first: to look a text up takes time in proportion to it.
    refusal = _TEXT_TO_REFUSAL.get(value) if len(value) == _CHARS else None
    if refusal is None:
        return Reason.US_PRIVACY_UNREADABLE if malformed_refuses else _NONE
    return refusal
