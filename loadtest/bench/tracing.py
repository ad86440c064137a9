"""
`python -m loadtest tracing`: the CPU that OpenTelemetry costs a bid, off and on.

    off          without `SEGMENTS_OTLP_URL`, the default
    off again    likewise, as another process: the difference from `off` is noise
    on           metrics and one bid in `EVERY` traced, to a collector that answers

All three bid listeners run at once, each with a worker, pinned to one CPU; driver (h2load), store
and collector have another. A round drives them in turns, forward and then backward, with the same
bid, in JSON and by gRPC, and is compared only with itself: a shared machine's speed varies. CPU is
the worker's, in all its threads, so it includes the exports. The supervisor exports the metrics at
a cost of time, not of bids, and is shown apart.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import uvloop

from loadtest.artf.calls import VARIABLES, message_of
from loadtest.bench import h2load
from loadtest.bench.against_peers import (
    REQUEST_BYTES,
    start_ours,
)
from loadtest.bench.calls import ask_by_grpc, ask_in_json, called
from loadtest.bench.checks import WrongAnswers, check_ours, until_enriched
from loadtest.bench.costs import say
from loadtest.bench.h2load import Ask, Streams
from loadtest.bench.stage import Stage, staged
from loadtest.otlp import Collector, collector
from loadtest.processes import parent_of
from loadtest.servers import Server, cpu_s

EVERY = 1_000
AT_MOST = 1.02
"""Of a bid's CPU without OpenTelemetry."""

_OFF, _AGAIN, _ON = "off", "off again", "on"
_TMAX_MS = 2_000
_VARIABLES = {**VARIABLES, "RTB_DEADLINE_CAP_MS": "1000", "RTB_TRACE_EVERY": str(EVERY)}


class Extent(NamedTuple):
    """The size of the measurement."""

    ids: int
    """Persons in the store."""
    requests: int
    """Of each form to each listener in each half of a round."""
    rounds: int


class Form(NamedTuple):
    """A form of the bid, as h2load sends it."""

    name: str
    ask: Ask
    streams: Streams


Costs = Mapping[str, Sequence[float]]
"""CPU microseconds a bid, by listener and round."""


class Measured(NamedTuple):
    """The results."""

    form_to_costs: Mapping[str, Costs]
    supervisor_shares: Mapping[str, float]  # of a core, by listener
    spans: int  # bids, in the collector
    points: int  # metrics of the listener, in the collector's last export


def tracing(extent: Extent) -> str:
    """
    Run the benchmark, and return its report.

    Raises:
        WrongAnswers: A listener does not keep the contract, or the collector got nothing.
    """
    if not h2load.is_possible():
        return "tracing: skipped: h2load is not installed; it is in Debian's nghttp2-client."
    with tempfile.TemporaryDirectory(prefix="rtb-tracing-") as directory:
        return uvloop.run(_tracing(Path(directory), extent))


async def _tracing(directory: Path, extent: Extent) -> str:
    async with staged(directory, extent.ids) as stage:
        with collector() as taken:
            found = await _measured(stage, taken, extent)
        return report(stage.head, extent, found)


async def _measured(stage: Stage, taken: Collector, extent: Extent) -> Measured:
    traffic = stage.traffic
    hit = traffic.plain_hit(0, REQUEST_BYTES)
    name_to_server: dict[str, Server] = {}
    for name in (_OFF, _AGAIN, _ON):
        # An empty setting counts as unset.
        url = taken.url if name == _ON else ""
        variables = {**_VARIABLES, "SEGMENTS_OTLP_URL": url}
        name_to_server[name] = await start_ours(stage.servers, stage.settings, variables)
        await until_enriched(name_to_server[name], hit)
    forms = []
    for server in name_to_server.values():
        [exchange] = await check_ours(server, [hit], traffic.population)
        message = message_of(hit, _TMAX_MS)
        [answer] = await called(server.port, [message])
        forms = [
            Form("JSON, HTTP/1.1", ask_in_json(exchange), Streams(32, is_http1=True)),
            Form("gRPC", ask_by_grpc(message, answer), Streams(8, 4)),
        ]
    supervisors = {name: parent_of(server.pid) for name, server in name_to_server.items()}
    before, began_s = {name: cpu_s(pid) for name, pid in supervisors.items()}, time.monotonic()
    form_to_costs: dict[str, dict[str, list[float]]] = {
        form.name: {name: [] for name in name_to_server} for form in forms
    }
    for number in range(extent.rounds):
        for form in forms:
            there_and_back = [*name_to_server, *reversed(name_to_server)]
            costs: dict[str, list[float]] = {name: [] for name in name_to_server}
            for name in there_and_back:
                costs[name].append(
                    await h2load.cost_us(
                        name_to_server[name],
                        form.ask,
                        form.streams,
                        count=extent.requests,
                        directory=stage.directory,
                    )
                )
            for name, of_name in costs.items():
                form_to_costs[form.name][name].append(sum(of_name) / len(of_name))
            said = ", ".join(
                f"{name} {us[-1]:.1f}" for name, us in form_to_costs[form.name].items()
            )
            say(f"round {number + 1} of {extent.rounds}: {form.name}: µs a bid {said}")
    took_s = time.monotonic() - began_s
    shares = {name: (cpu_s(pid) - before[name]) / took_s for name, pid in supervisors.items()}
    spans = sum(span.name == "bid" for span in taken.spans())
    points = len(taken.metrics("listener"))
    if not spans or not points:
        raise WrongAnswers(f"the collector has {spans} bids and {points} metrics")
    return Measured(form_to_costs, shares, spans, points)


def report(head: str, extent: Extent, found: Measured) -> str:
    """Return the tables, and the verdict."""
    lines = [
        head,
        "",
        f"CPU of a worker, µs a bid: medians of {extent.rounds} rounds of {2 * extent.requests:,}"
        f" bids; ratios are of one round, median (least-most). One bid in {EVERY:,} is traced.",
        "",
        "| | off | off again | on | off again/off | on/off |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for form, costs in found.form_to_costs.items():
        medians = " | ".join(f"{median(costs[name]):.1f}" for name in (_OFF, _AGAIN, _ON))
        ratios = " | ".join(_told(_ratios(costs, name)) for name in (_AGAIN, _ON))
        lines.append(f"| {form} | {medians} | {ratios} |")
    shares = ", ".join(f"{name} {share:.2%}" for name, share in found.supervisor_shares.items())
    lines += ["", f"The supervisor's share of a core: {shares}.", ""]
    lines.append(f"The collector got {found.spans:,} bids and {found.points} metrics.")
    lines += [
        f"{form}: {median(_ratios(costs, _ON)):.3f} of the CPU without; at most {AT_MOST}:"
        f" {'reached' if median(_ratios(costs, _ON)) <= AT_MOST else 'missed'}"
        for form, costs in found.form_to_costs.items()
    ]
    return "\n".join(lines)


def _ratios(costs: Costs, name: str) -> list[float]:
    """Return a listener's cost in `off`'s; where both of those count, in their mean."""
    if name == _AGAIN:
        return [again / off for off, again in zip(costs[_OFF], costs[_AGAIN], strict=True)]
    return [
        2 * on / (off + again)
        for off, again, on in zip(costs[_OFF], costs[_AGAIN], costs[_ON], strict=True)
    ]


def _told(ratios: Sequence[float]) -> str:
    return f"{median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})"
