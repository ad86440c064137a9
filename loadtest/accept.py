"""
`python -m loadtest accept`: the acceptance run of hosts, and its verdict.

    1,000 requests/s for 30 s, open loop      loadtest/open_loop.py
    mean < 2 ms, p95 < 5 ms                   OpenX
    at most 5 % over 5 ms                     Index Exchange
    0 wrong answers                           ours; each is compared byte for byte with an
                                              answer that was judged in full beforehand

With `--grpc` the same requests are calls of `GetMutations`, and the p95 must be below 1 ms.

Latency counts from a request's due time. A request that passed through for want of time is not
wrong (`loadtest.answers`), but shown.
"""

import asyncio
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from loadtest.answers import Verdict
from loadtest.artf.calls import VARIABLES, calls, framed
from loadtest.artf.judge import CallJudge
from loadtest.call_loop import call_loop
from loadtest.driver import wire
from loadtest.judge import CLOSE, NO_WAVE, Due, Judge, Phase, end_of
from loadtest.open_loop import Sample, open_loop, steady_ns
from loadtest.percentile import percentile
from loadtest.population import Population
from loadtest.servers import HOST, cpu_s
from loadtest.service import Service
from loadtest.traffic import BidRequest, Traffic, expectation

_DIFFERENT = 2_000
_CONNECTIONS = 64
_WARM_UP_PER_S = 500.0
_NS_PER_MS = 1_000_000
_PER_MILLE = 1_000
"""Of a core, as in a pod's resources."""


class Limits(NamedTuple):
    """The limits of a host."""

    mean_ms: float = 2.0
    p95_ms: float = 5.0
    budget_ms: float = 5.0
    over_budget: float = 0.05  # share of requests that may take longer than the budget
    wrong: int = 0


@dataclass(frozen=True)
class Plan:
    """The load and the limits of an acceptance run."""

    rate_per_s: float
    seconds: float
    limits: Limits
    is_grpc: bool = False


class Door(NamedTuple):
    """The service, as called at a door."""

    judge: Judge
    """Of all different requests."""
    run: Callable[[Sequence[int]], list[Sample[bytes]]]
    """Sends the requests in turn, each when due, in nanoseconds from the start."""


class Row(NamedTuple):
    """A line of the verdict."""

    what: str
    measured: float
    limit: float | None  # `None`: only shown
    holds: bool


@dataclass
class Measured:
    """The measurements of an acceptance run."""

    latencies_ms: list[float]  # ascending
    held_up_ms: list[float]  # ascending; delays by the driver, or for want of a connection
    passed_through: Counter[str]
    wrong: list[str]

    def rows(self, limits: Limits) -> list[Row]:
        """Compare the measurements with the limits."""
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
    """Run against our own service; see `accept`."""
    with tempfile.TemporaryDirectory(prefix="rtb-accept-") as directory:
        variables = VARIABLES if plan.is_grpc else {}
        service = Service(Path(directory), population.ids, workers, variables)
        try:
            asyncio.run(service.seed(population, say))
            pids = asyncio.run(service.bid_pids())
            return accept(plan, (HOST, service.port), population, say, pids)
        finally:
            service.stop()


def accept(
    plan: Plan,
    address: tuple[str, int],
    population: Population,
    say: Callable[[str], None],
    pids: Collection[int] = (),
) -> bool:
    """
    Run against a seeded service, print the verdict, and return whether all limits hold.

    Args:
        plan: The load and its limits.
        address: Host and port of the service.
        population: The seeded persons.
        say: Prints progress.
        pids: The service's processes, if they run here: their CPU is shown.

    Raises:
        loadtest.open_loop.NotAnswered: The service can't be connected to, or stopped answering.
    """
    door = (_grpc_door if plan.is_grpc else _json_door)(address, population)
    say(f"judging {_DIFFERENT:,} answers in full")
    _warm_up(door)
    count = round(plan.rate_per_s * plan.seconds)
    say(f"{count:,} requests, {plan.rate_per_s:,.0f} a second")
    before_s = sum(map(cpu_s, pids))
    samples = door.run(steady_ns(plan.rate_per_s, count))
    cpu_m = (sum(map(cpu_s, pids)) - before_s) / plan.seconds * _PER_MILLE
    rows = measured(samples, door.judge).rows(plan.limits)
    if pids:
        rows.append(Row("CPU of listener and store, m", cpu_m, None, holds=True))
    _print(plan, rows)
    return all(row.holds for row in rows)


def address_of(url: str) -> tuple[str, int]:
    """
    Return the host and port of a service.

    Raises:
        ValueError: Not `http://HOST[:PORT]`.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError("not http://HOST[:PORT]")
    return parts.hostname, parts.port or 80


def measured(samples: Sequence[Sample[bytes]], judge: Judge) -> Measured:
    """Judge every answer, and sort the times."""
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


def _json_door(address: tuple[str, int], population: Population) -> Door:
    traffic = Traffic(population)
    requests = [traffic.request(index) for index in range(_DIFFERENT)]
    sent = [wire(request, f"{address[0]}:{address[1]}") for request in requests]

    def run(due_ns: Sequence[int]) -> list[Sample[bytes]]:
        return open_loop(address, sent, due_ns=due_ns, connections=_CONNECTIONS, read=_whole)

    return Door(Judge(_dues(requests, sent, population)), run)


def _grpc_door(address: tuple[str, int], population: Population) -> Door:
    made = list(calls(Traffic(population), _DIFFERENT))
    requests, sent = [request for request, _ in made], [framed(message) for _, message in made]

    def run(due_ns: Sequence[int]) -> list[Sample[bytes]]:
        return call_loop(address, sent, due_ns=due_ns)

    return Door(CallJudge(_dues(requests, sent, population)), run)


def _dues(
    requests: Sequence[BidRequest], sent: Sequence[bytes], population: Population
) -> list[Due]:
    return [
        Due(request, bytes_, (expectation(request, population),), NO_WAVE)
        for request, bytes_ in zip(requests, sent, strict=True)
    ]


def _warm_up(door: Door) -> None:
    """Send every request once, slowly, and judge the answers in full."""
    for sample in door.run(steady_ns(_WARM_UP_PER_S, _DIFFERENT)):
        if sample.answer is not None:
            _judge(door.judge, sample.request, sample.answer)


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
