"""
`python -m loadtest low-rates`: CPU a bid at low rates, beside Go's fasthttp.

At saturation bids share the costs of a turn of the event loop; a small host's sidecar hardly ever
sees that. So the bench's request is sent in an open loop (`poisson_ns`) at fixed rates, over as
many connections as an exchange holds open, and all CPU of the server, timers and sweeps included,
is divided by the bids.

On a busy machine late bids come in crowds and cost less: with more than `MAX_LATE` of either
server's, a rate has no verdict.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from statistics import median
from typing import NamedTuple

import uvloop

from loadtest.bench.against_peers import REQUEST_BYTES, start_ours
from loadtest.bench.checks import check_ours, check_peer, until_enriched
from loadtest.bench.costs import MAX_LATE, say
from loadtest.bench.latency import latencies
from loadtest.bench.peers.build import Deadline
from loadtest.bench.shape_report import Costs, spread, verdict
from loadtest.bench.stage import PeerStage, staged_beside_go
from loadtest.driver import Exchange
from loadtest.open_loop import poisson_ns
from loadtest.servers import HOST, Server

RATES_PER_S = (500, 2_000, 10_000)
CONNECTIONS = 200
AT_MOST = 0.9
"""Of the peer's CPU, at each rate."""

_DIFFERENT = 256


class Extent(NamedTuple):
    """The size of the measurement."""

    ids: int
    """Persons in the store."""
    rounds: int
    seconds: int
    """Seconds of each rate and server in a round."""


class Rate(NamedTuple):
    """The measurements at a rate."""

    costs: Costs
    late: Costs
    """Shares of bids that passed through late."""


def low_rates(extent: Extent) -> str:
    """
    Run the benchmark, and return its table.

    Raises:
        WrongAnswers: A server does not keep the contract.
        NotPossible: There is no peer.
    """
    with tempfile.TemporaryDirectory(prefix="rtb-rates-") as directory:
        return uvloop.run(_low_rates(Path(directory), extent))


async def _low_rates(directory: Path, extent: Extent) -> str:
    async with staged_beside_go(directory, extent.ids, Deadline()) as stage:
        asked = await ready(stage)
        found = {rate_per_s: Rate(Costs([], []), Costs([], [])) for rate_per_s in RATES_PER_S}
        for number in range(extent.rounds):
            say(f"round {number + 1} of {extent.rounds}")
            for rate_per_s, (costs, late) in found.items():
                due_ns = poisson_ns(rate_per_s, rate_per_s * extent.seconds, Random(number))
                for n, (server, exchanges) in enumerate(asked.items()):
                    before_s = server.cpu_s()
                    answered = latencies(
                        HOST, server.port, exchanges, connections=CONNECTIONS, due_ns=due_ns
                    )
                    costs[n].append((server.cpu_s() - before_s) / len(due_ns) * 1e6)
                    late[n].append(answered.late / len(due_ns))
        return report(stage.head, extent, found)


async def ready(stage: PeerStage) -> dict[Server, Sequence[Exchange]]:
    """
    Start ours and the peer, and check their answers.

    Raises:
        WrongAnswers: An answer is not right.
    """
    hits = [stage.traffic.plain_hit(index, REQUEST_BYTES) for index in range(_DIFFERENT)]
    ours = await start_ours(stage.servers, stage.settings)
    peer = await stage.peer.start(stage.servers)
    for server in (ours, peer):
        await until_enriched(server, hits[0])
    our_hits = await check_ours(ours, hits, stage.traffic.population)
    return {ours: our_hits, peer: await check_peer(peer, hits, our_hits, lambda _: True)}


def report(head: str, extent: Extent, per_s_to_rate: Mapping[int, Rate]) -> str:
    """Return the table, in Markdown; ratios as in `loadtest.bench.shape_report`."""
    arguments = " ".join(f"--{name} {value}" for name, value in extent._asdict().items())
    lines = [
        f"`python -m loadtest low-rates {arguments}`, {CONNECTIONS} connections: {head}",
        "",
        "| bids/s | ours, µs a bid | late | Go fasthttp | late | ours/theirs | at most | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for rate_per_s, (costs, late) in per_s_to_rate.items():
        ours, theirs = (
            f"{spread(one)} | {median(shares):.1%}" for one, shares in zip(costs, late, strict=True)
        )
        is_late = any(median(shares) > MAX_LATE for shares in late)
        reached = "too many late" if is_late else verdict(costs.ratio, AT_MOST)
        lines.append(
            f"| {rate_per_s:,} | {ours} | {theirs} | {costs.ratio:.2f} | {AT_MOST:g} | {reached} |"
        )
    return "\n".join(lines)
