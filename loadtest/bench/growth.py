"""
The growth of a cost: the figures of a sweep, and conclusions from its medians.

    steepest   the largest exponent over any fourfold of x, or all of x if that is less:
               0 is flat, 1 is linear, 2 is quadratic; between neighbours noise would decide
    bends at   the first x at which the cost is twice the least before it: from there on
               the growing part outweighs the fixed part
"""

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import median
from typing import NamedTuple

LINEAR = 1.15
"""An exponent up to here is called linear, to allow for noise."""

_BENT = 2.0
_SPAN = 4.0


class Cost(NamedTuple):
    """The cost of requests at a point of a sweep."""

    cpu_us: float
    p50_ms: float
    p99_ms: float


class Curve(NamedTuple):
    """A cost along a sweep; x rises, and both are above 0."""

    name: str
    x: Sequence[float]
    y: Sequence[float]

    def steepest(self) -> float:
        """Return the largest exponent; 0 for a single point."""
        span = min(_SPAN, self.x[-1] / self.x[0])
        points = list(zip(self.x, self.y, strict=True))
        return max(
            (
                math.log(y2 / y1) / math.log(x2 / x1)
                for (x1, y1), (x2, y2) in combinations(points, 2)
                if x2 / x1 >= span
            ),
            default=0.0,
        )

    def bend(self) -> float | None:
        """Return the first x whose cost is twice the least before it, if any."""
        least = self.y[0]
        for x, y in zip(self.x, self.y, strict=True):
            if y >= _BENT * least:
                return x
            least = min(least, y)
        return None

    def verdict(self) -> str:
        """Describe the growth."""
        steepest, bend = self.steepest(), self.bend()
        worse = "" if steepest <= LINEAR else ", WORSE THAN LINEAR"
        bent = f"twice its least at {bend:,.10g}" if bend is not None else "never twice its least"
        return f"{self.name}: at most x^{steepest:.2f}{worse}; {bent}"


class Sweep(NamedTuple):
    """A growing quantity, and its costs."""

    name: str
    """The quantity; also the axis."""
    file_name: str
    x: Sequence[float]
    costs: Sequence[Sequence[Cost]]
    """By x, then by round."""

    def curves(self) -> list[Curve]:
        """Return CPU, p50 and p99, medians of the rounds."""
        medians = [Cost(*map(median, zip(*rounds, strict=True))) for rounds in self.costs]
        cpu, p50, p99 = zip(*medians, strict=True)
        return [
            Curve("CPU µs a request", self.x, cpu),
            Curve("p50 ms", self.x, p50),
            Curve("p99 ms", self.x, p99),
        ]

    def markdown(self) -> str:
        """Return figures and conclusions."""
        return table(self.name, self.curves())


def table(x_name: str, curves: Sequence[Curve]) -> str:
    """Return curves over the same x as a Markdown table, and conclusions."""
    lines = [
        f"| {x_name} | " + " | ".join(curve.name for curve in curves) + " |",
        "| --- |" + " --- |" * len(curves),
    ]
    for n, x in enumerate(curves[0].x):
        cells = (f"{curve.y[n]:,.2f}" for curve in curves)
        lines.append(f"| {x:,.10g} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"- {curve.verdict()}" for curve in curves)])
