"""
The results of a bench, as the block of Markdown in docs/benchmarks.md.

Numbers are medians of their rounds; a ratio is of two medians of the same run, ours to theirs:
below 1 is better, except for requests/s.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from loadtest.bench.peers.build import AIOHTTP, FAST, NGINX, STDLIB, Skipped

OURS = "rtb-segments"
FLOOR = "floor: our listener, a constant"

CPU_OF_PEER: Mapping[str, float] = {AIOHTTP: 0.12, STDLIB: 0.2, NGINX: 0.25, FAST: 0.6}
P99_OF_FAST = 1.0
OF_FLOOR = 3.0
BYTES_PER_ID = 40.0

SATURATED = 0.9
"""Share of a CPU above which the server is saturated, rather than its driver."""


class Measured(NamedTuple):
    """A server's rounds; empty lists for skipped measurements."""

    cpu_us: list[float]
    wrk_cpu_us: list[float]
    requests_per_s: list[float]
    busy: list[float]
    p50_ms: list[float]
    p99_ms: list[float]
    same_rate_p50_ms: list[float]
    same_rate_p99_ms: list[float]


class Target(NamedTuple):
    """A target: an upper bound."""

    name: str
    measured: float | None
    at_most: float

    @property
    def verdict(self) -> str:
        """Whether the target was reached."""
        if self.measured is None:
            return "not measured"
        return "reached" if self.measured <= self.at_most else "missed"


class Report(NamedTuple):
    """A whole run, in row order."""

    head: Sequence[str]
    name_to_measured: Mapping[str, Measured]
    skipped: Sequence[Skipped]
    bytes_per_id: float
    same_rate_per_s: float | None
    notes: Sequence[str] = ()

    def targets(self) -> list[Target]:
        """Return the targets, in the peers' order."""
        targets = [
            Target(f"CPU per request, of {name}", self._cpu_of(name), at_most)
            for name, at_most in CPU_OF_PEER.items()
        ]
        return [
            *targets,
            Target(f"p99 at half saturation, of {FAST}", self._p99_of(FAST), P99_OF_FAST),
            Target("CPU per request, of the floor", self._cpu_of(FLOOR), OF_FLOOR),
            Target("bytes per id in the store", self.bytes_per_id, BYTES_PER_ID),
        ]

    def markdown(self) -> str:
        """Return the report."""
        lines = [*self.head, "", *self._table()]
        if self.same_rate_per_s is not None:
            lines += ["", *self._same_rate()]
        lines += ["", "| to reach | measured | at most | |", "| --- | --- | --- | --- |"]
        for target in self.targets():
            measured = "" if target.measured is None else f"{target.measured:.2f}"
            lines.append(f"| {target.name} | {measured} | {target.at_most:g} | {target.verdict} |")
        if notes := [*self.notes, *self._driver_bound()]:
            lines += ["", *notes]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        lines = [
            "| | CPU µs a request | ours/theirs | same, under wrk | ours/theirs | requests/s |"
            " ours/theirs | p50 ms | p99 ms | ours/theirs |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for name, measured in self.name_to_measured.items():
            cells = (
                _spread(measured.cpu_us),
                _number(self._cpu_of(name), 2),
                _number(_median(measured.wrk_cpu_us), 1),
                _number(self._of(name, "wrk_cpu_us"), 2),
                _number(_median(measured.requests_per_s), 0),
                _number(self._of(name, "requests_per_s"), 2),
                _number(_median(measured.p50_ms), 2),
                _spread(measured.p99_ms, 2),
                _number(self._p99_of(name), 2),
            )
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines += [f"| {name} | skipped: {why} | | | | | | | | |" for name, why in self.skipped]
        return lines

    def _same_rate(self) -> list[str]:
        lines = [
            f"All at the same {self.same_rate_per_s:,.0f} requests/s, half of what the slower of"
            f" {OURS} and {FAST} saturates at:",
            "",
            "| | p50 ms | p99 ms | p99 ours/theirs |",
            "| --- | --- | --- | --- |",
        ]
        for name, measured in self.name_to_measured.items():
            if measured.same_rate_p99_ms:
                ratio = _number(self._of(name, "same_rate_p99_ms"), 2)
                p50 = _number(_median(measured.same_rate_p50_ms), 2)
                p99 = _spread(measured.same_rate_p99_ms, 2)
                lines.append(f"| {name} | {p50} | {p99} | {ratio} |")
        return lines

    def _driver_bound(self) -> list[str]:
        """Name the servers that wrk did not saturate."""
        return [
            f"{name}: its process had a CPU for only {median(measured.busy):.0%} of the time at"
            " what is called saturation."
            for name, measured in self.name_to_measured.items()
            if measured.busy and median(measured.busy) < SATURATED
        ]

    def _cpu_of(self, name: str) -> float | None:
        return self._of(name, "cpu_us")

    def _p99_of(self, name: str) -> float | None:
        return self._of(name, "p99_ms")

    def _of(self, name: str, figure: str) -> float | None:
        theirs = self.name_to_measured.get(name)
        if theirs is None:
            return None
        ours_median = _median(getattr(self.name_to_measured[OURS], figure))
        theirs_median = _median(getattr(theirs, figure))
        return ours_median / theirs_median if ours_median and theirs_median else None


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _spread(values: Sequence[float], digits: int = 1) -> str:
    if not values:
        return ""
    text = _number(median(values), digits)
    if len(values) == 1:
        return text
    return f"{text} ({_number(min(values), digits)}-{_number(max(values), digits)})"
