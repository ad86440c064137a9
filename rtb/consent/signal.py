"""
A flag of a bid request, read without guessing.

Absent means unknown, never "no" (OpenRTB 2.6, 2.4); and a flag that is there
but is no number says something that we can't read, which is not "no" either.
"""

from enum import Enum
from typing import Any


class Signal(Enum):
    """A flag that a sender may leave out. Left out is not the same as no."""

    YES = 1
    NO = 0
    NOT_SAID = None
    UNREADABLE = "?"


# A lookup in an Enum costs 90 ns on Python 3.11, and a bid takes ten of them.
YES, NO, NOT_SAID, UNREADABLE = Signal


def signal_of(value: Any) -> Signal:
    """Read a 0/1 integer; any other number is taken as 1, whatever it means to its sender."""
    if value is None:
        return NOT_SAID
    # Not isinstance: true and false are of a type that the field can't have.
    if type(value) is int or type(value) is float:
        return YES if value else NO
    return UNREADABLE


def signal_of_gpc(value: Any) -> Signal:
    """Read `regs.ext.gpc`: the string "1", and the number from those who write it so."""
    if isinstance(value, str):
        # The length first: to look a text up takes time in proportion to it.
        return _GPC_TEXT_TO_SIGNAL.get(value, UNREADABLE) if len(value) <= 1 else UNREADABLE
    return signal_of(value)


_GPC_TEXT_TO_SIGNAL = {"1": YES, "0": NO, "": NOT_SAID}
