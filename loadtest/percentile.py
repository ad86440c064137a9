"""Percentiles of measurements."""

import math
from collections.abc import Sequence


def percentile(rising: Sequence[float], percent: float) -> float:
    """
    Return a percentile by nearest rank: a measured value, not interpolated.

    Raises:
        ValueError: There is no value, or `percent` is not above 0 and up to 100.
    """
    if not rising or not 0 < percent <= 100:
        raise ValueError(f"percentile {percent} of {len(rising)} values")
    return rising[math.ceil(len(rising) * percent / 100) - 1]
