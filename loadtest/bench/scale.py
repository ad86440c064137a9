"""
`make bench-scale`: the cost of a request as its work grows, in tables and PNG files.

    ids per request       1-10
    segments per person   1-200
    persons in the store  10^4-10^7
    request size          1-64 KB
    connections           1-1,000
    bytes per id          beside plain layouts, against segments per person (layouts.py)

Each round measures each point: CPU in a closed loop on 32 connections, and latency in an open loop
at `RATE_PER_S`, far from saturation. Other quantities are those of `bench`: one id, 5 segments, 2.8
KB, 32 connections. Only the deadline is longer: a thousand requests in flight are more than 20 ms
of work.
"""

import asyncio
import resource
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from statistics import mean
from typing import NamedTuple

import numpy as np
import uvloop
from redis.asyncio import Redis

from loadtest.bench.against_peers import (
    CONNECTIONS,
    REQUEST_BYTES,
    SEGMENTS_PER_ID,
    cpus,
    start_ours,
)
from loadtest.bench.costs import cost_us, say
from loadtest.bench.growth import Cost, Curve, Sweep, table
from loadtest.bench.latency import latencies
from loadtest.bench.layouts import bytes_per_id
from loadtest.bench.machine import machine, store_version
from loadtest.bench.plots import plot, plot_sweep
from loadtest.bench.stock import Stock, asked, crowd, email_hashes, ids_of, requests_of, stock
from loadtest.driver import Exchange
from loadtest.open_loop import poisson_ns
from loadtest.servers import HOST, Server, Servers, pinned, to_cpu
from segments.ledger.database.engine import open_ledger
from segments.settings import Settings
from segments.store.embedded import EmbeddedStore
from segments.store.servers.connection import connect

IDS_PER_REQUEST = (1, 2, 3, 5, 7, 10)
SEGMENTS_PER_PERSON = (1, 5, 10, 20, 50, 100, 200)
REQUEST_KB = (1, 2, 4, 8, 16, 32, 64)
CONNECTIONS_SWEPT = (1, 4, 16, 32, 100, 300, 1_000)
LAYOUT_SEGMENTS = (1, 2, 5, 10, 20, 50, 100)
FEWEST_PERSONS = 10_000
RATE_PER_S = 2_000

_PERSONS_ASKED = 240  # divisible by 1, 2, 3, 5 and 10, and nearly by 7
_LAYOUT_PERSONS = 20_000
_OPEN_FILES = 8_192
_LOOK_EVERY_S = 0.2
_ENV = {"RTB_DEADLINE_CAP_MS": "1000", "RTB_TMAX_SHARE": "1"}


class Extent(NamedTuple):
    """The size of the measurement."""

    persons: int
    """The most persons in a store; a power of ten."""
    requests: int
    """Requests of the closed loop at a point in a round."""
    rounds: int
    seconds: int
    """Seconds of latency measurement at a point in a round."""


class _Asked(NamedTuple):
    """A point of a sweep: requests with their answers, and the connections."""

    exchanges: list[Exchange]
    connections: int = CONNECTIONS


def scale(extent: Extent, output: Path) -> str:
    """
    Measure, draw PNG files into `output`, which is created if absent, and return the tables.

    Raises:
        loadtest.bench.checks.WrongAnswers: An answer is wrong.
    """
    output.mkdir(parents=True, exist_ok=True)
    # The servers inherit the limit.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if most == resource.RLIM_INFINITY else min(_OPEN_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    return uvloop.run(_scale(extent, output))


async def _scale(extent: Extent, output: Path) -> str:
    async with _service(FEWEST_PERSONS) as (server, redis, held):
        made_by = f"{machine()}, {await store_version(redis)}"
        sweeps = [
            await _ids_per_request(server, held, extent),
            await _segments_per_person(server, held, extent),
            await _request_size(server, held, extent),
            await _connections(server, held, extent),
        ]
    sweeps.append(await _persons(extent))
    curves = await _layouts()
    arguments = " ".join(f"--{name} {value}" for name, value in extent._asdict().items())
    head = f"`python -m loadtest scale {arguments}` on {made_by}; p50 and p99 at {RATE_PER_S:,}/s."
    for sweep in sweeps:
        say(f"drawn: {plot_sweep(sweep, output, made_by)}")
    path = output / "bytes-per-id.png"
    say(f"drawn: {plot([('bytes per id', curves)], 'segments per person', path, made_by)}")
    tables = [sweep.markdown() for sweep in sweeps] + [table("segments per person", curves)]
    return "\n\n".join([head, *tables])


@asynccontextmanager
async def _service(persons: int) -> AsyncIterator[tuple[Server, Redis, Stock]]:
    server_cpu, driver_cpu = cpus()
    with tempfile.TemporaryDirectory(prefix="rtb-scale-") as directory, pinned(driver_cpu):
        async with (
            _store(Path(directory), persons) as (redis, held, settings),
            Servers(server_cpu) as servers,
        ):
            server = await start_ours(servers, settings, _ENV)
            yield server, redis, held


@asynccontextmanager
async def _store(directory: Path, persons: int) -> AsyncIterator[tuple[Redis, Stock, Settings]]:
    settings = Settings(
        data_dir=directory, redis_url=None, ledger_url=None, blob_url=None, expected_ids=persons
    )
    store = EmbeddedStore(directory)
    await store.start()
    try:
        async with connect(settings.store_url) as redis:
            await to_cpu(redis, cpus()[1])
            async with open_ledger(settings.ledger_dsn) as ledger:
                held = await stock(ledger, redis, settings)
            yield redis, held, settings
    finally:
        await store.stop()


async def _ids_per_request(server: Server, held: Stock, extent: Extent) -> Sweep:
    hashes = email_hashes("several", _PERSONS_ASKED)
    await held.put(ids_of(hashes), SEGMENTS_PER_ID)
    points = [
        _Asked(await asked(server, requests_of(hashes, n, REQUEST_BYTES), SEGMENTS_PER_ID))
        for n in IDS_PER_REQUEST
    ]
    return await _swept("ids per request", IDS_PER_REQUEST, server, points, extent)


async def _segments_per_person(server: Server, held: Stock, extent: Extent) -> Sweep:
    points = []
    for n in SEGMENTS_PER_PERSON:
        hashes = email_hashes(f"in-{n}", _PERSONS_ASKED)
        await held.put(ids_of(hashes), n)
        points.append(_Asked(await asked(server, requests_of(hashes, 1, REQUEST_BYTES), n)))
    return await _swept("segments per person", SEGMENTS_PER_PERSON, server, points, extent)


async def _request_size(server: Server, held: Stock, extent: Extent) -> Sweep:
    hashes = email_hashes("large", _PERSONS_ASKED)
    await held.put(ids_of(hashes), SEGMENTS_PER_ID)
    points = [
        _Asked(await asked(server, requests_of(hashes, 1, kb * 1_024), SEGMENTS_PER_ID))
        for kb in REQUEST_KB
    ]
    # The smallest complete request is a little more than 1 KB.
    x = [round(mean(len(e.sent) for e in p.exchanges) / 1_024, 1) for p in points]
    return await _swept("request size, KB", x, server, points, extent)


async def _connections(server: Server, held: Stock, extent: Extent) -> Sweep:
    hashes = email_hashes("many", _PERSONS_ASKED)
    await held.put(ids_of(hashes), SEGMENTS_PER_ID)
    exchanges = await asked(server, requests_of(hashes, 1, REQUEST_BYTES), SEGMENTS_PER_ID)
    points = [_Asked(exchanges, connections) for connections in CONNECTIONS_SWEPT]
    return await _swept("connections", CONNECTIONS_SWEPT, server, points, extent)


async def _persons(extent: Extent) -> Sweep:
    persons = [FEWEST_PERSONS]
    while persons[-1] < extent.persons:
        persons.append(persons[-1] * 10)
    costs = []
    for count in persons:
        async with _service(count) as (server, redis, held):
            hashes = email_hashes("one-of", _PERSONS_ASKED)
            say(f"{count:,} persons")
            ids = np.concatenate((ids_of(hashes), crowd(count - len(hashes))))
            await held.put(ids, SEGMENTS_PER_ID)
            exchanges = await asked(server, requests_of(hashes, 1, REQUEST_BYTES), SEGMENTS_PER_ID)
            await _until_at_rest(redis)
            costs.append(
                [
                    await _cost(server, _Asked(exchanges), extent, number)
                    for number in range(extent.rounds)
                ]
            )
    return Sweep("persons in the store", "persons.png", persons, costs)


async def _until_at_rest(redis: Redis) -> None:
    """Wait for the end of the store's log rewriting."""
    while True:
        doing = await redis.info("persistence")
        if not (doing["aof_rewrite_in_progress"] or doing["aof_rewrite_scheduled"]):
            return
        await asyncio.sleep(_LOOK_EVERY_S)


async def _layouts() -> list[Curve]:
    with tempfile.TemporaryDirectory(prefix="rtb-scale-") as directory:
        async with _store(Path(directory), _LAYOUT_PERSONS) as (redis, held, _):
            ids = crowd(_LAYOUT_PERSONS)
            say(f"bytes per id of {_LAYOUT_PERSONS:,} persons in each layout")
            weighed = [await bytes_per_id(redis, held, ids, n) for n in LAYOUT_SEGMENTS]
    return [Curve(name, LAYOUT_SEGMENTS, [w[name] for w in weighed]) for name in weighed[0]]


async def _swept(
    name: str, x: Sequence[float], server: Server, points: Sequence[_Asked], extent: Extent
) -> Sweep:
    """Measure each point in each round, to spread a slow minute."""
    costs: list[list[Cost]] = [[] for _ in points]
    for number in range(extent.rounds):
        say(f"{name}: round {number + 1} of {extent.rounds}")
        for point, rounds in zip(points, costs, strict=True):
            rounds.append(await _cost(server, point, extent, number))
    return Sweep(name, name.replace(", KB", "").replace(" ", "-") + ".png", x, costs)


async def _cost(server: Server, point: _Asked, extent: Extent, seed: int) -> Cost:
    exchanges, connections = point
    cpu_us = await cost_us(server, exchanges, connections=connections, count=extent.requests)
    due_ns = poisson_ns(RATE_PER_S, RATE_PER_S * extent.seconds, Random(seed))
    found = latencies(HOST, server.port, exchanges, connections=connections, due_ns=due_ns)
    return Cost(cpu_us, found.percentile(50), found.percentile(99))
