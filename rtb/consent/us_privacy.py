"""
The US Privacy string: four characters of version, notice, opt-out of sale, LSPA.

The third decides: `Y` is an opt-out of sale, `N` is none; in `1---` the law does not apply. The IAB
has retired the string; senders have not.
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
"""All 125 valid strings."""


def refusal_of_us_privacy(value: Any, malformed_refuses: bool) -> Reason:
    """
    Decide by `regs.us_privacy` or `regs.ext.us_privacy`.

    Args:
        value: As decoded. An empty string counts as absent.
        malformed_refuses: Malformed strings refuse; other types always do.
    """
    if value is None or value == "":
        return _NONE
    if not isinstance(value, str):
        return Reason.SIGNAL_UNREADABLE
    # A lookup hashes the whole text.
    refusal = _TEXT_TO_REFUSAL.get(value) if len(value) == _CHARS else None
    if refusal is None:
        return Reason.US_PRIVACY_UNREADABLE if malformed_refuses else _NONE
    return refusal
