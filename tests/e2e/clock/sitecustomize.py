"""
Puts the clock of every Python process that finds this on its PYTHONPATH ahead.

By `TEST_CLOCK_AHEAD_S` seconds: days pass in a test, and the product needs no
setting for it.
"""

import os
import time

_AHEAD_S = float(os.environ.get("TEST_CLOCK_AHEAD_S", "0"))
_true_time = time.time


def _time() -> float:
    return _true_time() + _AHEAD_S


time.time = _time
