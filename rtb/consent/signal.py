"""
A flag of a bid request, read without guessing.

Absent means unknown (OpenRTB 2.6, 2.4), and other than a number means unreadable: neither is "no".
"""

from enum import Enum
from typing import Any


class Signal(Enum):
    """The state of an optional flag."""

    YES = 1
    NO = 0
    NOT_SAID = None
    UNREADABLE = "?"


# An Enum's lookup costs 90 ns on Python 3.11, ten times a bid.
YES, NO, NOT_SAID, UNREADABLE = Signal


def signal_of(value: Any) -> Signal:
    """Read a 0/1 integer; any other number counts as 1."""
    if value is None:
        return NOT_SAID
    # Not isinstance: bool is wrong.
    if type(value) is int or type(value) is float:
        return YES if value else NO
    return UNREADABLE


def signal_of_gpc(value: Any) -> Signal:
    """Read `regs.ext.gpc`: the string "1", or the number that some senders write."""
    if isinstance(value, str):
        # A lookup hashes the whole text.
        return _GPC_TEXT_TO_SIGNAL.get(value, UNREADABLE) if len(value) <= 1 else UNREADABLE
    return signal_of(value)


_GPC_TEXT_TO_SIGNAL = {"1": YES, "0": NO, "": NOT_SAID}
