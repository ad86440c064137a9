"""
The table of `python -m loadtest shapes`, as in docs/benchmarks.md.

Numbers are medians of the rounds; so are ratios, of each round's two turns: a slow minute of the
machine meets both.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import NamedTuple

GRPC = "grpc"
"""The row of calls: ours by gRPC, and ours in JSON in the peer's place."""

OF_FAST_BENCH, OF_FAST, OF_JSON = 0.5, 0.6, 0.9
ADDED_US: Mapping[str, float] = {"gzip-in": 5.0, "gzip-out": 10.0, "tls": 4.0}
"""Shapes that send the bench's request in another way, and their limit of added CPU."""

_BENCH = "bench"


class Costs(NamedTuple):
    """CPU microseconds a bid in each round."""

    ours: list[float]
    theirs: list[float]

    @property
    def ratio(self) -> float:
        """Ours to theirs."""
        return median(ours / theirs for ours, theirs in zip(*self, strict=True))


class Report(NamedTuple):
    """A run."""

    head: str
    arguments: Mapping[str, int]
    name_to_costs: Mapping[str, Costs]

    def markdown(self) -> str:
        """Return the tables."""
        lines = [
            f"`python -m loadtest shapes {' '.join(self._flags())}`: {self.head}",
            "",
            "| shape | ours, µs a bid | Go fasthttp | ours/theirs | at most | |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for name, costs in self.name_to_costs.items():
            of_json = " (ours in JSON)" * (name == GRPC)
            lines.append(
                f"| {name} | {spread(costs.ours)} | {spread(costs.theirs)}{of_json}"
                f" | {costs.ratio:.2f} | {at_most(name):g}"
                f" | {verdict(costs.ratio, at_most(name))} |"
            )
        added = [*self._added()]
        if added:
            lines += ["", "| adds to the bench shape, µs | ours | Go fasthttp | at most | |"]
            lines += ["| --- | --- | --- | --- | --- |", *added]
        return "\n".join(lines)

    def _flags(self) -> Iterator[str]:
        for name, value in self.arguments.items():
            yield f"--{name} {value}"
        yield from self.name_to_costs

    def _added(self) -> Iterator[str]:
        if _BENCH not in self.name_to_costs:
            return
        bench = [median(costs) for costs in self.name_to_costs[_BENCH]]
        for name, limit_us in ADDED_US.items():
            if name in self.name_to_costs:
                ours, theirs = (
                    median(costs) - plain
                    for costs, plain in zip(self.name_to_costs[name], bench, strict=True)
                )
                reached = verdict(ours, limit_us)
                yield f"| {name} | {ours:+.1f} | {theirs:+.1f} | {limit_us:g} | {reached} |"


def at_most(name: str) -> float:
    """Return the upper bound of a row's ratio."""
    return {_BENCH: OF_FAST_BENCH, GRPC: OF_JSON}.get(name, OF_FAST)


def verdict(measured: float, limit: float) -> str:
    """Tell whether a target was reached."""
    return "reached" if measured <= limit else "missed"


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return a median, and the least and most."""
    middle = f"{median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"
