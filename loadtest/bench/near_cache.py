"""
The savings and costs of the near cache: a worker without it beside workers with it.

    off          every id is looked up in the store
    1 %, 10 %    room for this share of the persons in bids
    100 %        room for all of them

All workers listen at once, pinned to a CPU; driver and store have another. They are driven in turns
with the same bids: 2.8 KB, an id, persons drawn with a Zipf law. Answers of the worker without a
cache are checked first; under load all must repeat them.

The mean time runs from a request's last byte to its answer, by the worker's own count, with
`CONNECTIONS` requests in flight: a worker at its limit.
"""

import asyncio
import os
import re
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import NamedTuple

import aiohttp
import uvloop
from redis.asyncio import Redis

from loadtest.bench.checks import WrongAnswers, check_ours, until_enriched
from loadtest.driver import Exchange, drive
from loadtest.population import Population
from loadtest.ports import free_ports
from loadtest.processes import only_worker
from loadtest.seed import seed
from loadtest.servers import HOST, Server, Servers, cpu_s, pinned
from loadtest.traffic import BidRequest, Traffic
from loadtest.zipf import Zipf
from rtb.lookup.near_cache.records import ENTRY_BYTES
from segments.settings import Settings
from segments.store.embedded import EmbeddedStore
from segments.store.servers.connection import connect

CONNECTIONS = 32
REQUEST_BYTES = 2_800
EXPONENTS = (0.8, 0.99, 1.2)
SHARES = (0.0, 0.01, 0.1, 1.0)

_SEGMENTS_PER_ID = 5
_RECORD_BYTES = 25
_ASKED = [
    f'rtb_cache_events_total{{event="{event}"}}'
    for event in ("hits", "shared", "unleased", "misses")
]
_BEAT_S = 0.6
"""More than twice the interval of a worker's beats."""

_MAX_LATE = 0.01
_DEADLINE_MS = 1_000
"""On a busy machine a bid may wait long, and a late bid costs less."""


class Cost(NamedTuple):
    """Of a worker in a round: microseconds a request, and the hit rate of its ids."""

    worker_us: float
    store_us: float
    answer_us: float
    hit_rate: float


class _Worker(NamedTuple):
    name: str
    server: Server
    admin_port: int

    async def metrics(self) -> Mapping[str, float]:
        url = f"http://{HOST}:{self.admin_port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            found = re.findall(r"^(rtb_\S+) (\S+)$", await answer.text(), re.MULTILINE)
        return {name: float(value) for name, value in found}


def cache_bench(*, ids: int, requests: int, rounds: int) -> None:
    """
    Run the benchmark, and print the table; `requests` go to each worker in a round, per Zipf law.

    Raises:
        WrongAnswers: A worker does not keep the contract.
    """
    with tempfile.TemporaryDirectory(prefix="rtb-cache-") as directory:
        uvloop.run(_bench(Path(directory), ids, requests, rounds))


async def _bench(directory: Path, ids: int, requests: int, rounds: int) -> None:
    settings = Settings(
        data_dir=directory, redis_url=None, ledger_url=None, blob_url=None, expected_ids=ids
    )
    population = Population(ids, _SEGMENTS_PER_ID)
    store = EmbeddedStore(directory)
    await store.start()
    try:
        await seed(population, settings, _say)
        async with connect(settings.store_url) as redis:
            await _measure(redis, settings, population, requests, rounds)
    finally:
        await store.stop()


async def _measure(
    redis: Redis, settings: Settings, population: Population, requests: int, rounds: int
) -> None:
    *_, server_cpu, other_cpu = [None, None, *sorted(os.sched_getaffinity(0))]
    store_pid = int((await redis.info("server"))["process_id"])
    if other_cpu is not None:
        os.sched_setaffinity(store_pid, {other_cpu})
    with pinned(other_cpu):
        async with Servers(server_cpu) as servers:
            workers = [await _start(servers, settings, population, share) for share in SHARES]
            template = Traffic(population).plain_hit(0, REQUEST_BYTES)
            for worker in workers:
                await until_enriched(worker.server, template)
            print(_HEAD.format(ids_of(population), rounds, requests))
            for exponent in EXPONENTS:
                exchanges = await _exchanges(workers[0], population, template, exponent, requests)
                costs: list[list[Cost]] = [[] for _ in workers]
                for number in range(rounds + 1):
                    _say(f"exponent {exponent}, round {number} of {rounds}")
                    for worker, of_worker in zip(workers, costs, strict=True):
                        of_worker.append(await _cost(worker, exchanges, requests, store_pid))
                for worker, of_worker in zip(workers, costs, strict=True):
                    _print(exponent, worker.name, of_worker[1:])  # the first has filled the cache


async def _start(
    servers: Servers, settings: Settings, population: Population, share: float
) -> _Worker:
    port, admin_port = free_ports(2)
    room = int(share * ids_of(population) * (ENTRY_BYTES + _RECORD_BYTES))
    env = {
        "RTB_HOST": HOST,
        "RTB_PORT": str(port),
        "RTB_OPT_OUTS_MAX_AGE_S": "0",  # no loader runs beside it
        "RTB_ADMIN_PORT": str(admin_port),
        "RTB_STOP_ACCEPTING_AFTER_S": "0",
        "RTB_WORKERS": "1",
        "RTB_CACHE_BYTES": str(room),
        "RTB_DEADLINE_CAP_MS": str(_DEADLINE_MS),
        "SEGMENTS_DATA_DIR": str(settings.data_dir),
        "SEGMENTS_REDIS_URL": "",
    }
    name = f"{share:.0%}, {room / 1e6:.1f} MB" if share else "off"
    server = await servers.start(name, ["-m", "rtb"], port=port, env=env, answering_pid=only_worker)
    return _Worker(name, server, admin_port)


def ids_of(population: Population) -> int:
    """Return the number of persons in bids: those known by the SHA-256 of their address."""
    return population.ids // 10 * 4


async def _exchanges(
    worker: _Worker, population: Population, template: BidRequest, exponent: float, count: int
) -> list[Exchange]:
    """Draw the bids' persons, and check an answer for each."""
    rng, zipf = Random(1), Zipf(ids_of(population), exponent)
    numbers = [rank // 4 * 10 + rank % 4 for rank in (zipf.rank(rng) for _ in range(count))]
    # Ids are hashes: frequency does not depend on the place in the store.
    number_to_request = {n: _about(template, n, population) for n in set(numbers)}
    checked = await check_ours(worker.server, list(number_to_request.values()), population)
    number_to_exchange = dict(zip(number_to_request, checked, strict=True))
    return [number_to_exchange[number] for number in numbers]


def _about(template: BidRequest, number: int, population: Population) -> BidRequest:
    [planted] = template.planted
    old, new = (population.email_hash(one).encode() for one in (planted, number))
    return replace(template, body=template.body.replace(old, new), planted=(number,))


async def _cost(worker: _Worker, exchanges: Sequence[Exchange], count: int, store_pid: int) -> Cost:
    before, worker_s, store_s = await worker.metrics(), worker.server.cpu_s(), cpu_s(store_pid)
    port = worker.server.port
    late = await drive(HOST, port, exchanges, connections=CONNECTIONS, count=count)
    worker_s, store_s = worker.server.cpu_s() - worker_s, cpu_s(store_pid) - store_s
    # The worker publishes its cache counters with the next beat.
    await asyncio.sleep(_BEAT_S)
    after = await worker.metrics()
    if late > count * _MAX_LATE:
        raise WrongAnswers(f"{worker.name}: {late:,} of {count:,} answers were late")
    asked = [after[event] - before[event] for event in _ASKED]
    answer_s = after["rtb_request_seconds_sum"] - before["rtb_request_seconds_sum"]
    return Cost(
        worker_s / count * 1e6,
        store_s / count * 1e6,
        answer_s / count * 1e6,
        asked[0] / max(sum(asked), 1),
    )


def _print(exponent: float, name: str, costs: Sequence[Cost]) -> None:
    worker_us, store_us, answer_us, hit_rate = map(statistics.median, zip(*costs, strict=True))
    costs_us = f"{worker_us:10.1f}{store_us:10.1f}{answer_us:10.0f}"
    print(f"  {exponent:<10}{name:16}{hit_rate:8.1%}{costs_us}", flush=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


_HEAD = f"""
Bids of {REQUEST_BYTES:,} bytes and one id about {{:,}} persons, {CONNECTIONS} connections;
median of {{}} rounds of {{:,}}, µs a request.

  {"exponent":10}{"room":16}{"hits":>8}{"worker":>10}{"store":>10}{"answered":>10}"""
