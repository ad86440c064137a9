"""
`python -m loadtest low-rates`: CPU a bid where few come, beside Go's fasthttp.

At saturation bids arrive together and share the costs of a turn of the event loop; a sidecar of a
small host hardly ever sees that. So the bench's request is sent in an open loop (`poisson_ns`) at
fixed rates, over as many connections as an exchange holds open, and the CPU of all that a server
does meanwhile, timers and sweeps included, is divided by the bids.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import uvloop

from loadtest.bench.against_peers import REQUEST_BYTES, start_ours
from loadtest.bench.checks import WrongAnswers, check_ours, check_peer, until_enriched
from loadtest.bench.costs import MAX_LATE, TRIES, say
from loadtest.bench.latency import latencies
from loadtest.bench.peers.build import Deadline
from loadtest.bench.shape_report import Costs, spread, verdict
from loadtest.bench.stage import Stage, staged
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


def low_rates(extent: Extent) -> str:
    """
    Run the benchmark, and return its table.

    Raises:
        WrongAnswers: A server does not keep the contract, or is late all the time.
        NotPossible: There is no peer.
    """
    with tempfile.TemporaryDirectory(prefix="rtb-rates-") as directory:
        return uvloop.run(_low_rates(Path(directory), extent))


async def _low_rates(directory: Path, extent: Extent) -> str:
    async with staged(directory, extent.ids, Deadline()) as stage:
        asked = await ready(stage)
        found = {rate_per_s: Costs([], []) for rate_per_s in RATES_PER_S}
        for number in range(extent.rounds):
            say(f"round {number + 1} of {extent.rounds}")
            for rate_per_s, costs in found.items():
                for taken, (server, exchanges) in zip(costs, asked.items(), strict=True):
                    taken.append(_cost_us(server, exchanges, rate_per_s, extent, Random(number)))
        return report(stage.head, extent, found)


async def ready(stage: Stage) -> dict[Server, Sequence[Exchange]]:
    """
    Start ours and the peer, and check their answers to the bench's requests.

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


def _cost_us(
    server: Server, exchanges: Sequence[Exchange], rate_per_s: int, extent: Extent, rng: Random
) -> float:
    due_ns = poisson_ns(rate_per_s, rate_per_s * extent.seconds, rng)
    for _ in range(TRIES):
        before_s = server.cpu_s()
        found = latencies(HOST, server.port, exchanges, connections=CONNECTIONS, due_ns=due_ns)
        after_s = server.cpu_s()
        if found.late <= len(due_ns) * MAX_LATE:
            return (after_s - before_s) / len(due_ns) * 1e6
        say(f"{server.name}: {found.late:,} of {len(due_ns):,} were late; once more")
    raise WrongAnswers(f"{server.name}: too many late answers in {TRIES} rounds")


def report(head: str, extent: Extent, rate_to_costs: Mapping[int, Costs]) -> str:
    """Return the table, in Markdown; ratios as in `loadtest.bench.shape_report`."""
    arguments = " ".join(f"--{name} {value}" for name, value in extent._asdict().items())
    lines = [
        f"`python -m loadtest low-rates {arguments}`, {CONNECTIONS} connections: {head}",
        "",
        "| bids/s | ours, µs a bid | Go fasthttp | ours/theirs | at most | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for rate_per_s, costs in rate_to_costs.items():
        lines.append(
            f"| {rate_per_s:,} | {spread(costs.ours)} | {spread(costs.theirs)}"
            f" | {costs.ratio:.2f} | {AT_MOST:g} | {verdict(costs.ratio, AT_MOST)} |"
        )
    return "\n".join(lines)
