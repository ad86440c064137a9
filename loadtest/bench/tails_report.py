"""The tables of `python -m loadtest tails`, as in docs/benchmarks.md; numbers are medians."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from loadtest.bench.peers_report import OURS
from loadtest.bench.shape_report import verdict

QUIET, STALL, LOAD = "quiet", "stall", "load"

STALLED_RATE, STALLED_P99_MS = "10,000/s", 30.0
LOADED_RATE, LOADED_OF_QUIET = "2,000/s", 3.0
BUSY_MS = 1.0
"""A driver that delays bids so long at rest shows other work: its rate has no verdict."""


class Extent(NamedTuple):
    """The size of the measurement."""

    ids: int
    """Persons in the store before."""
    rows: int
    """Of a file that is loaded; 0: nothing is."""
    rounds: int
    seconds: int
    """Seconds of each server, rate and condition in a round."""


class Point(NamedTuple):
    """A row of the table: the condition, the rate by name, the server."""

    condition: str
    rate: str
    server: str


class Tail(NamedTuple):
    """The latency of a run, in milliseconds."""

    p50: float
    p99: float
    p999: float
    held_up: float
    """The p99 of a bid's wait for driver and connection, which is part of its latency."""
    late: float
    """The share of bids that passed through late."""


Found = dict[Point, list[Tail]]


def report(head: str, extent: Extent, found: Mapping[Point, Sequence[Tail]]) -> str:
    """Return the tables, in Markdown."""
    arguments = " ".join(f"--{name} {value}" for name, value in extent._asdict().items())
    lines = [
        f"`python -m loadtest tails {arguments}`: {head}",
        "",
        "| | rate | | p50 ms | p99 ms | p99.9 ms | held up ms | late |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for point, tails in found.items():
        p50, p99, p999, held_up, late = (median(values) for values in zip(*tails, strict=True))
        lines.append(
            f"| {point.condition} | {point.rate} | {point.server} | {p50:.2f} | {p99:.2f}"
            f" | {p999:.2f} | {held_up:.2f} | {late:.1%} |"
        )
    targets = [*_targets(found)]
    if targets:
        lines += ["", "| target | measured | at most | |", "| --- | --- | --- | --- |", *targets]
    return "\n".join(lines)


def _targets(found: Mapping[Point, Sequence[Tail]]) -> Iterator[str]:
    def ours(condition: str, rate: str) -> Sequence[Tail]:
        return found.get(Point(condition, rate, OURS), ())

    def target(name: str, rate: str, measured: float, limit: float) -> str:
        is_busy = median(tail.held_up for tail in ours(QUIET, rate)) > BUSY_MS
        reached = "machine too busy" if is_busy else verdict(measured, limit)
        return f"| {name}, {rate} | {measured:.1f} | {limit:g} | {reached} |"

    stalled = ours(STALL, STALLED_RATE)
    if stalled and ours(QUIET, STALLED_RATE):
        p99_ms = median(tail.p99 for tail in stalled)
        yield target("p99 ms through a stall", STALLED_RATE, p99_ms, STALLED_P99_MS)
    loaded, quiet = ours(LOAD, LOADED_RATE), ours(QUIET, LOADED_RATE)
    if loaded and quiet:
        of_quiet = median(tail.p99 for tail in loaded) / median(tail.p99 for tail in quiet)
        name = "p99 beside a load, of the quiet p99"
        yield target(name, LOADED_RATE, of_quiet, LOADED_OF_QUIET)
