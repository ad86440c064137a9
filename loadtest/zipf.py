"""
The frequency of persons in requests: a few are frequent, most are rare.

Ranks are drawn by rejection-inversion (W. Hörmann and G. Derflinger, 1996, "Rejection-inversion to
generate variates from monotone discrete distributions"): a cumulative table takes 8 bytes a person
and seconds to build.
"""

from math import exp, expm1, log, log1p
from random import Random

_SMALL = 1e-8


class Zipf:
    """
    Ranks 0 to `count - 1`, where rank r is drawn in proportion to `(r + 1) ** -exponent`.

    Args:
        count: The number of persons, at least one.
        exponent: Above 0; YCSB takes 0.99 for the popularity of users.
    """

    def __init__(self, count: int, exponent: float = 0.99) -> None:
        self._count = count
        self._exponent = exponent
        self._area_from = self._area(1.5) - 1.0
        self._area_to = self._area(count + 0.5)
        self._always = 2.0 - self._at_area(self._area(2.5) - self._density(2.0))

    def rank(self, rng: Random) -> int:
        """Draw a rank; side effect: takes one number from `rng`, rarely two or more."""
        while True:
            area = self._area_to + rng.random() * (self._area_from - self._area_to)
            at = self._at_area(area)
            nearest = min(max(int(at + 0.5), 1), self._count)
            # Accept within the strip below the density, otherwise compare.
            if nearest - at <= self._always:
                return nearest - 1
            if area >= self._area(nearest + 0.5) - self._density(nearest):
                return nearest - 1

    def _density(self, at: float) -> float:
        return exp(-self._exponent * log(at))

    def _area(self, at: float) -> float:
        """Integrate the density; the form holds for an exponent of 1 too."""
        log_at = log(at)
        power = (1.0 - self._exponent) * log_at
        return (expm1(power) / power if abs(power) > _SMALL else 1.0 + power / 2.0) * log_at

    def _at_area(self, area: float) -> float:
        power = max(area * (1.0 - self._exponent), -1.0)
        return exp((log1p(power) / power if abs(power) > _SMALL else 1.0 - power / 2.0) * area)
