"""
`make bench`: what one enriched request costs, in one table.

    ours     the bid listener as it is run, one worker
    floor    its protocol answering a constant of the same size
    peer     the same contract in aiohttp, redis-py and orjson

All three run at once, each pinned to the same CPU while the driver and the
store have another; they are driven in turns, round after round, and medians
are compared, so that a slow minute of the machine slows all of them. Measured
is CPU time of the answering process and not wall time. Before anything is
timed, `CHECKED` generated requests must get the answers that are due, from
ours exactly and from the peer but for the spelling of numbers.

Settings are the defaults, deadlines too; only the peer gets a longer one, for 32
connections keep it busy for most of 20 ms. A request that passes through late
costs less than one that is enriched, so a round with more than `_MAX_LATE` of
them does not count.
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import uvloop
from redis.asyncio import Redis

from loadtest.checks import WrongAnswers, check_ours, check_peer, until_enriched
from loadtest.driver import Exchange, ask, drive
from loadtest.population import Population
from loadtest.seed import seed
from loadtest.servers import HOST, Server, Servers, free_ports, only_child, pinned, used_bytes
from loadtest.traffic import Traffic
from segments.ledger.engine import open_ledger
from segments.projection import catch_up
from segments.settings import Settings
from segments.store.connection import connect
from segments.store.embedded import EmbeddedStore

CONNECTIONS = 32
REQUEST_BYTES = 2_800
CHECKED = 1_000
SEGMENTS_PER_ID = 5

OF_PEER = 0.2
OF_FLOOR = 3.0
BYTES_PER_ID = 40.0

_HITS = 256
_WARM_UP = 2_000
_PEER_DEADLINE_MS = 1_000
_MAX_LATE = 0.01
_TRIES = 5


class Costs(NamedTuple):
    """CPU microseconds per request, of each round."""

    ours: list[float]
    floor: list[float]
    peer: list[float]


def bench(*, ids: int, requests: int, rounds: int) -> None:
    """
    Measure, and print the table.

    Args:
        ids: Persons in the store.
        requests: How many each server gets in a round.
        rounds: How often each server has its turn.

    Raises:
        WrongAnswers: A server does not do what is measured.
    """
    with tempfile.TemporaryDirectory(prefix="rtb-bench-") as directory:
        uvloop.run(_bench(Path(directory), ids, requests, rounds))


async def _bench(directory: Path, ids: int, requests: int, rounds: int) -> None:
    settings = Settings(
        data_dir=directory, redis_url=None, ledger_url=None, blob_url=None, expected_ids=ids
    )
    population = Population(ids, SEGMENTS_PER_ID)
    store = EmbeddedStore(directory)
    await store.start()
    try:
        async with connect(settings.store_url) as redis:
            bytes_per_id = await _seed(redis, settings, population)
            costs = await _measure(redis, settings, Traffic(population), requests, rounds)
    finally:
        await store.stop()
    _print(costs, bytes_per_id, ids, requests)


async def _seed(redis: Redis, settings: Settings, population: Population) -> float:
    """Seed the store, and return how many bytes of its memory each id takes."""
    async with open_ledger(settings) as ledger:
        await catch_up(ledger, redis, settings)
    empty_bytes = await used_bytes(redis)
    _say(f"seeding {population.ids:,} ids")
    done = await seed(population, settings, _say)
    _say(f"{done.rows / done.loading_s:,.0f} rows/s, {SEGMENTS_PER_ID} segments each")
    return (await used_bytes(redis) - empty_bytes) / population.ids


async def _measure(
    redis: Redis, settings: Settings, traffic: Traffic, requests: int, rounds: int
) -> Costs:
    server_cpu, driver_cpu = _cpus()
    if driver_cpu is not None:
        process_id = int((await redis.info("server"))["process_id"])
        os.sched_setaffinity(process_id, {driver_cpu})
    hits = [traffic.plain_hit(index, REQUEST_BYTES) for index in range(_HITS)]
    with pinned(driver_cpu):
        async with Servers(server_cpu) as servers:
            ours = await _start_ours(servers, settings)
            peer = await _start_peer(servers, settings)
            for server in (ours, peer):
                await until_enriched(server, hits[0])
            _say(f"checking {CHECKED:,} answers of each")
            mix = [traffic.request(index) for index in range(CHECKED)]
            await check_peer(peer, mix, await check_ours(ours, mix, traffic.population))
            our_hits = await check_ours(ours, hits, traffic.population)
            floor = await _start_floor(servers, settings.data_dir, our_hits[0])
            turns = (
                (ours, our_hits),
                (floor, await ask(HOST, floor.port, hits)),
                (peer, await check_peer(peer, hits, our_hits)),
            )
            costs = Costs([], [], [])
            for number in range(rounds):
                _say(f"round {number + 1} of {rounds}")
                for (server, exchanges), costs_us in zip(turns, costs, strict=True):
                    costs_us.append(await _cost_us(server, exchanges, requests))
            return costs


async def _start_ours(servers: Servers, settings: Settings) -> Server:
    port, admin_port = free_ports(2)
    env = {
        "RTB_HOST": HOST,
        "RTB_PORT": str(port),
        "RTB_ADMIN_PORT": str(admin_port),
        "RTB_WORKERS": "1",
        "SEGMENTS_DATA_DIR": str(settings.data_dir),
        "SEGMENTS_REDIS_URL": "",
    }
    return await servers.start(
        "rtb-segments", ["-m", "rtb"], port=port, env=env, answering_pid=only_child
    )


async def _start_peer(servers: Servers, settings: Settings) -> Server:
    (port,) = free_ports(1)
    argv = [
        *("-m", "loadtest.peers.aiohttp_redis"),
        *("--port", str(port)),
        *("--store-url", settings.store_url),
        *("--deadline-ms", str(_PEER_DEADLINE_MS)),
    ]
    return await servers.start("aiohttp + redis-py + orjson", argv, port=port)


async def _start_floor(servers: Servers, directory: Path, exchange: Exchange) -> Server:
    (port,) = free_ports(1)
    answer = directory / "constant.json"
    answer.write_bytes(exchange.answer.body)
    argv = ["-m", "loadtest.peers.constant", "--port", str(port), "--answer", str(answer)]
    return await servers.start("floor", argv, port=port)


async def _cost_us(server: Server, exchanges: Sequence[Exchange], count: int) -> float:
    await drive(HOST, server.port, exchanges, connections=CONNECTIONS, count=_WARM_UP)
    for _ in range(_TRIES):
        before_s = server.cpu_s()
        late = await drive(HOST, server.port, exchanges, connections=CONNECTIONS, count=count)
        after_s = server.cpu_s()
        if late <= count * _MAX_LATE:
            return (after_s - before_s) / count * 1e6
        _say(f"{server.name}: {late:,} of {count:,} answers were late; once more")
    raise WrongAnswers(f"{server.name}: too many late answers in {_TRIES} rounds")


def _cpus() -> tuple[int | None, int | None]:
    """Return a CPU for the servers and another for driver and store; none if there is one."""
    available = sorted(os.sched_getaffinity(0))
    return (available[0], available[1]) if len(available) > 1 else (None, None)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(costs: Costs, bytes_per_id: float, ids: int, requests: int) -> None:
    ours, floor, peer = map(statistics.median, costs)
    rows = (
        ("rtb-segments", costs.ours, ours),
        ("floor: our listener, a constant", costs.floor, floor),
        ("aiohttp + redis-py + orjson", costs.peer, peer),
    )
    print(
        f"\nCPU of the service process per enriched request: {REQUEST_BYTES:,} bytes, one hit of"
        f" {SEGMENTS_PER_ID} segments,\n{CONNECTIONS} connections; median of {len(costs.ours)}"
        f" rounds of {requests:,}, {ids:,} ids in the store.\n\n"
        f"  {'':32}{'µs':>8}{'least':>8}{'most':>8}{'of peer':>9}{'of floor':>10}"
    )
    for name, per_round, median in rows:
        print(
            f"  {name:32}{median:8.1f}{min(per_round):8.1f}{max(per_round):8.1f}"
            f"{median / peer:9.2f}{median / floor:10.2f}"
        )
    print(f"\n  {'':32}{'measured':>8}{'target':>9}")
    for name, measured, target in (
        ("ours, of the peer", ours / peer, OF_PEER),
        ("ours, of the floor", ours / floor, OF_FLOOR),
        ("bytes per id in the store", bytes_per_id, BYTES_PER_ID),
    ):
        verdict = "reached" if measured <= target else "missed"
        print(f"  {name:32}{measured:8.2f}{target:9.2f}  {verdict}")
