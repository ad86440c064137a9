"""
`make bench`: the cost of an enriched request, ours beside its peers, in a table.

    ours     the production bid listener, a single worker
    floor    its protocol answering a constant of the same size
    peers    the same contract by other means: loadtest/bench/peers/build.py

All servers run at once, pinned to the same CPU; driver and store have another. They are driven in
turns, and medians of rounds are compared. First, answers to `CHECKED` generated requests must be
right, peers' except for the spelling of numbers, and malformed requests must be refused. Each round
measures each server three times:

    CPU a request    closed loop, `CONNECTIONS` connections (costs.py)
    requests/s       at saturation by wrk (saturation.py), with the CPU of each request
    p50, p99         open loop at half of its own saturation of that round (latency.py)

A faster server's half means a busier driver and store. So fast servers are also compared at a
common rate, where the floor shows the share of driver and kernel.

Settings are the defaults; only peers get a longer deadline, as 32 connections keep slow servers
busy for most of 20 ms.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import uvloop
from redis.asyncio import Redis

from loadtest.bench import saturation
from loadtest.bench.checks import (
    WrongAnswers,
    check_ours,
    check_peer,
    check_refusals,
    until_enriched,
)
from loadtest.bench.costs import MAX_LATE, TRIES, cost_us, say
from loadtest.bench.latency import Latencies, latencies
from loadtest.bench.machine import machine, store_version
from loadtest.bench.peers.build import FAST, Deadline, Peer, Skipped, peers
from loadtest.bench.peers_report import FLOOR, OURS, Measured, Report
from loadtest.driver import Exchange, ask
from loadtest.open_loop import poisson_ns
from loadtest.population import Population
from loadtest.ports import free_ports
from loadtest.processes import only_worker
from loadtest.seed import seed
from loadtest.servers import HOST, Server, Servers, pinned, to_cpu, used_bytes
from loadtest.traffic import BidRequest, Traffic
from segments.ledger.database.engine import open_ledger
from segments.projection.catalog import catch_up
from segments.settings import Settings
from segments.store.embedded import EmbeddedStore
from segments.store.servers.connection import connect

CONNECTIONS = 32
REQUEST_BYTES = 2_800
CHECKED = 1_000
SEGMENTS_PER_ID = 5

_HITS = 256
_PEER_DEADLINE = Deadline(cap_ms=1_000, tmax_share=1)


class Extent(NamedTuple):
    """The size of the measurement."""

    ids: int
    """Persons in the store."""
    requests: int
    """Requests to each server in a round of the closed loop."""
    rounds: int
    """Turns of each server."""
    seconds: int
    """Seconds of saturation, and again of latency, of each server in a round."""


class Turn(NamedTuple):
    """A server, with its requests and expected answers."""

    server: Server
    exchanges: list[Exchange]


def bench(extent: Extent) -> Report:
    """
    Run the benchmark.

    Raises:
        WrongAnswers: A server does not keep the contract.
    """
    with tempfile.TemporaryDirectory(prefix="rtb-bench-") as directory:
        return uvloop.run(_bench(Path(directory), extent))


async def _bench(directory: Path, extent: Extent) -> Report:
    settings = Settings(
        data_dir=directory, redis_url=None, ledger_url=None, blob_url=None, expected_ids=extent.ids
    )
    population = Population(extent.ids, SEGMENTS_PER_ID)
    built = peers(directory, settings.store_url, _PEER_DEADLINE)
    skipped = [peer for peer in built if isinstance(peer, Skipped)]
    for name, why in skipped:
        say(f"{name}: skipped: {why}")
    store = EmbeddedStore(directory)
    await store.start()
    try:
        async with connect(settings.store_url) as redis:
            bytes_per_id = await seeded(redis, settings, population)
            head = [
                *_head(extent),
                f"{machine()}, {await store_version(redis)}.",
                *(f"{p.name}: {p.versions}." for p in built if isinstance(p, Peer)),
            ]
            bench = _Bench(directory, settings, Traffic(population), extent)
            ready = [peer for peer in built if isinstance(peer, Peer)]
            measured = await bench.run(redis, ready)
    finally:
        await store.stop()
    return Report(head, measured, skipped, bytes_per_id, bench.same_rate_per_s, tuple(bench.notes))


def _head(extent: Extent) -> list[str]:
    arguments = " ".join(f"--{name} {value}" for name, value in extent._asdict().items())
    return [
        f"`python -m loadtest bench {arguments}`: {REQUEST_BYTES:,} bytes a request, one id with"
        f" {SEGMENTS_PER_ID} segments,",
        f"{CONNECTIONS} connections, {extent.ids:,} ids in the store, one worker on one core,"
        f" driver and store on another;",
        f"medians of {extent.rounds} rounds (least-most), p50 and p99 at half of one's own"
        " saturation, open loop.",
    ]


async def seeded(redis: Redis, settings: Settings, population: Population) -> float:
    """Seed the store, and return the bytes of memory that each id takes."""
    async with open_ledger(settings.ledger_dsn) as ledger:
        await catch_up(ledger, redis, settings.expected_ids)
    empty_bytes = await used_bytes(redis)
    say(f"seeding {population.ids:,} ids")
    done = await seed(population, settings, say)
    say(f"{done.rows / done.loading_s:,.0f} rows/s, {population.segments_per_id} segments each")
    return (await used_bytes(redis) - empty_bytes) / population.ids


async def start_ours(
    servers: Servers, settings: Settings, env: Mapping[str, str] | None = None
) -> Server:
    """Start the production bid listener with a single worker and its own store."""
    port, admin_port = free_ports(2)
    env = dict(env or {}) | {
        "RTB_HOST": HOST,
        "RTB_PORT": str(port),
        "RTB_OPT_OUTS_MAX_AGE_S": "0",  # no loader runs beside it
        "RTB_ADMIN_PORT": str(admin_port),
        "RTB_STOP_ACCEPTING_AFTER_S": "0",
        "RTB_WORKERS": "1",
        "SEGMENTS_DATA_DIR": str(settings.data_dir),
        "SEGMENTS_REDIS_URL": "",
    }
    return await servers.start(OURS, ["-m", "rtb"], port=port, env=env, answering_pid=only_worker)


def cpus() -> tuple[int | None, int | None]:
    """Return a CPU for servers and another for driver and store; `None`s on a single core."""
    available = sorted(os.sched_getaffinity(0))
    return (available[0], available[1]) if len(available) > 1 else (None, None)


class _Bench:
    def __init__(
        self, directory: Path, settings: Settings, traffic: Traffic, extent: Extent
    ) -> None:
        self.same_rate_per_s: float | None = None
        self.notes: list[str] = []
        self._directory = directory
        self._settings = settings
        self._traffic = traffic
        self._extent = extent

    async def run(self, redis: Redis, ready: Sequence[Peer]) -> dict[str, Measured]:
        server_cpu, driver_cpu = cpus()
        await to_cpu(redis, driver_cpu)
        hits = [self._traffic.plain_hit(index, REQUEST_BYTES) for index in range(_HITS)]
        with pinned(driver_cpu):
            async with Servers(server_cpu) as servers:
                turns = await self._start(servers, ready, hits)
                measured = {
                    turn.server.name: Measured(*([] for _ in Measured._fields)) for turn in turns
                }
                for number in range(self._extent.rounds):
                    for turn in turns:
                        say(f"round {number + 1} of {self._extent.rounds}: {turn.server.name}")
                        await self._measure(turn, measured[turn.server.name], Random(number))
                if saturation.is_possible():
                    await self._measure_at_same_rate(turns, measured)
                else:
                    self.notes.append("requests/s, p50 and p99: skipped: wrk is not installed.")
                return measured

    async def _start(
        self, servers: Servers, ready: Sequence[Peer], hits: Sequence[BidRequest]
    ) -> list[Turn]:
        population = self._traffic.population
        mix = [self._traffic.request(index) for index in range(CHECKED)]
        ours = await start_ours(servers, self._settings)
        await until_enriched(ours, hits[0])
        say(f"checking {CHECKED:,} answers of each")
        our_mix = await check_ours(ours, mix, population)
        our_hits = await check_ours(ours, hits, population)
        floor = await self._start_floor(servers, our_hits[0])
        turns = [Turn(ours, our_hits), Turn(floor, await ask(HOST, floor.port, hits))]
        for peer in ready:
            server = await peer.start(servers)
            await until_enriched(server, hits[0])
            await check_refusals(server, hits[0])
            await check_peer(server, mix, our_mix, peer.survives)
            turns.append(Turn(server, await check_peer(server, hits, our_hits, peer.survives)))
        return turns

    async def _start_floor(self, servers: Servers, exchange: Exchange) -> Server:
        (port,) = free_ports(1)
        answer = self._directory / "constant.json"
        answer.write_bytes(exchange.answer.body)
        argv = ["-m", "loadtest.bench.peers.constant", "--port", str(port), "--answer", str(answer)]
        return await servers.start(FLOOR, argv, port=port)

    async def _measure(self, turn: Turn, measured: Measured, rng: Random) -> None:
        server, exchanges = turn
        cost = await cost_us(
            server, exchanges, connections=CONNECTIONS, count=self._extent.requests
        )
        measured.cpu_us.append(cost)
        if not saturation.is_possible():
            return
        most = await saturation.saturate(
            server,
            exchanges,
            connections=CONNECTIONS,
            seconds=self._extent.seconds,
            directory=self._directory,
        )
        measured.wrk_cpu_us.append(most.cpu_us)
        measured.requests_per_s.append(most.requests_per_s)
        measured.busy.append(most.busy)
        if server.name == FLOOR:
            return  # half of its saturation is more than the driver can send on time
        found = self._latencies(turn, most.requests_per_s / 2, rng)
        measured.p50_ms.append(found.percentile(50))
        measured.p99_ms.append(found.percentile(99))

    async def _measure_at_same_rate(
        self, turns: Sequence[Turn], name_to_measured: dict[str, Measured]
    ) -> None:
        compared = [turn for turn in turns if turn.server.name in (OURS, FLOOR, FAST)]
        if not any(turn.server.name == FAST for turn in compared):
            return
        slower = min(min(name_to_measured[name].requests_per_s) for name in (OURS, FAST))
        self.same_rate_per_s = slower / 2
        for number in range(self._extent.rounds):
            for turn in compared:
                found = self._latencies(turn, self.same_rate_per_s, Random(number))
                measured = name_to_measured[turn.server.name]
                measured.same_rate_p50_ms.append(found.percentile(50))
                measured.same_rate_p99_ms.append(found.percentile(99))

    def _latencies(self, turn: Turn, rate_per_s: float, rng: Random) -> Latencies:
        server, exchanges = turn
        due_ns = poisson_ns(rate_per_s, round(rate_per_s * self._extent.seconds), rng)
        for _ in range(TRIES):
            found = latencies(HOST, server.port, exchanges, connections=CONNECTIONS, due_ns=due_ns)
            if found.late <= len(due_ns) * MAX_LATE:
                return found
            say(f"{server.name}: {found.late:,} of {len(due_ns):,} were late; once more")
        raise WrongAnswers(f"{server.name}: too many late answers in {TRIES} rounds")
