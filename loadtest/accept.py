"""
`python -m loadtest accept`: the acceptance run that hosts ask for, and its verdict.

    1,000 requests/s for 30 s, open loop      loadtest/open_loop.py
    mean < 2 ms, p95 < 5 ms                   OpenX
    at most 5 % over 5 ms                     Index Exchange
    0 wrong answers                           ours; each is compared byte for byte with one
                                              that was judged in full before the clock started

Latency counts from the moment at which a request was due. A request that passed
through for want of time is no wrong answer (`loadtest.answers`), and is shown.
"""

import asyncio
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from loadtest.answers import Verdict
from loadtest.driver import wire
from loadtest.judge import CLOSE, NO_WAVE, Due, Judge, Phase, end_of
from loadtest.open_loop import Sample, open_loop, steady_ns
from loadtest.percentile import percentile
from loadtest.population import Population
from loadtest.servers import HOST
from loadtest.service import Service
from loadtest.traffic import Traffic, expectation

_DIFFERENT = 2_000
_CONNECTIONS = 64
_WARM_UP_PER_S = 500.0
_NS_PER_MS = 1_000_000


class Limits(NamedTuple):
    """What a host asks for."""

    mean_ms: float = 2.0
    p95_ms: float = 5.0
    budget_ms: float = 5.0
    over_budget: float = 0.05  # share of requests that may take longer than the budget
    wrong: int = 0


@dataclass(frozen=True)
class Plan:
    """How an acceptance is run."""

    rate_per_s: float
    seconds: float
    limits: Limits


class Row(NamedTuple):
    """One line of the verdict."""

    what: str
    measured: float
    limit: float | None  # `None`: only shown
    holds: bool


@dataclass
class Measured:
    """What an acceptance run has seen."""

    latencies_ms: list[float]  # ascending
    held_up_ms: list[float]  # ascending; by the driver, or for want of a connection
    passed_through: Counter[str]
    wrong: list[str]

    def rows(self, limits: Limits) -> list[Row]:
        """Compare with what is asked for."""
        all_ms = self.latencies_ms
        over = sum(ms > limits.budget_ms for ms in all_ms) / len(all_ms)
        mean_ms, p95_ms = statistics.fmean(all_ms), percentile(all_ms, 95)
        return [
            Row("mean, ms", mean_ms, limits.mean_ms, mean_ms < limits.mean_ms),
            Row("p95, ms", p95_ms, limits.p95_ms, p95_ms < limits.p95_ms),
            Row(
                f"over {limits.budget_ms:g} ms, %",
                over * 100,
                limits.over_budget * 100,
                over <= limits.over_budget,
            ),
            Row("wrong answers", len(self.wrong), limits.wrong, len(self.wrong) <= limits.wrong),
            Row("p50, ms", percentile(all_ms, 50), None, holds=True),
            Row("p99, ms", percentile(all_ms, 99), None, holds=True),
            Row("p99.9, ms", percentile(all_ms, 99.9), None, holds=True),
            Row("longest, ms", all_ms[-1], None, holds=True),
            Row("of which sent late, p99, ms", percentile(self.held_up_ms, 99), None, holds=True),
            Row("passed through as late", self.passed_through.total(), None, holds=True),
        ]


def accept_own(
    plan: Plan, population: Population, *, workers: int, say: Callable[[str], None]
) -> bool:
    """Run it against a service and a store of our own, and print the verdict."""
    with tempfile.TemporaryDirectory(prefix="rtb-accept-") as directory:
        service = Service(Path(directory), population.ids, workers)
        try:
            asyncio.run(service.seed(population, say))
            return accept(plan, (HOST, service.port), population, say)
        finally:
            service.stop()


def accept(
    plan: Plan, address: tuple[str, int], population: Population, say: Callable[[str], None]
) -> bool:
    """
    Run it against a service that has been seeded, and print the verdict.

    Returns:
        Whether all that is asked for holds.

    Raises:
        loadtest.open_loop.NotAnswered: The service can't be connected to, or stopped answering.
    """
    judge, sent = _judged(address, population, say)
    count = round(plan.rate_per_s * plan.seconds)
    say(f"{count:,} requests, {plan.rate_per_s:,.0f} a second")
    samples = open_loop(
        address,
        sent,
        due_ns=steady_ns(plan.rate_per_s, count),
        connections=_CONNECTIONS,
        read=_whole,
    )
    rows = measured(samples, judge).rows(plan.limits)
    _print(plan, rows)
    return all(row.holds for row in rows)


def address_of(url: str) -> tuple[str, int]:
    """
    Return where a service is.

    Raises:
        ValueError: Not `http://HOST[:PORT]`.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError("not http://HOST[:PORT]")
    return parts.hostname, parts.port or 80


def measured(samples: Sequence[Sample[bytes]], judge: Judge) -> Measured:
    """Judge every answer, and put the times in order."""
    passed_through: Counter[str] = Counter()
    wrong = []
    for sample in samples:
        if sample.answer is None:
            wrong.append("a connection ended with a request in flight")
            continue
        verdict, why = _judge(judge, sample.request, sample.answer)
        if verdict is Verdict.LATE:
            passed_through[why] += 1
        elif verdict is Verdict.WRONG:
            wrong.append(why)
    return Measured(
        sorted(sample.latency_ns / _NS_PER_MS for sample in samples),
        sorted(sample.held_up_ns / _NS_PER_MS for sample in samples),
        passed_through,
        wrong,
    )


def _judged(
    address: tuple[str, int], population: Population, say: Callable[[str], None]
) -> tuple[Judge, list[bytes]]:
    """Ask everything once at an easy pace, and judge the answers in full; it warms up, too."""
    traffic = Traffic(population)
    requests = [traffic.request(index) for index in range(_DIFFERENT)]
    host = f"{address[0]}:{address[1]}"
    sent = [wire(request, host) for request in requests]
    dues = [
        Due(request, bytes_, (expectation(request, population),), NO_WAVE)
        for request, bytes_ in zip(requests, sent, strict=True)
    ]
    judge = Judge(dues)
    say(f"judging {_DIFFERENT:,} answers in full")
    samples = open_loop(
        address,
        sent,
        due_ns=steady_ns(_WARM_UP_PER_S, _DIFFERENT),
        connections=_CONNECTIONS,
        read=_whole,
    )
    for sample in samples:
        if sample.answer is not None:
            _judge(judge, sample.request, sample.answer)
    return judge, sent


def _whole(_: int, received: bytes) -> bytes | None:
    length = end_of(received)
    return received if 0 < length <= len(received) else None


def _judge(judge: Judge, request: int, answer: bytes) -> tuple[Verdict, str]:
    if answer == judge.usual[request]:
        return Verdict.RIGHT, ""
    return judge.judge(request, answer.replace(CLOSE, b"", 1), Phase.BEFORE)


def _print(plan: Plan, rows: Sequence[Row]) -> None:
    print(
        f"\n{plan.rate_per_s:,.0f} requests/s for {plan.seconds:g} s, open loop; latency counts"
        f" from the moment a request was due.\n\n  {'':32}{'measured':>10}{'limit':>8}"
    )
    for what, value, limit, holds in rows:
        print(f"  {what:32}{value:10.2f}", end="")
        print("" if limit is None else f"{limit:8g}  {'held' if holds else 'MISSED'}")
    print(f"\n  {'accepted' if all(row.holds for row in rows) else 'NOT ACCEPTED'}")
