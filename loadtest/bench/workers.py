"""
`python -m loadtest workers`: the gain of a second worker on this machine.

Driver and store share the workers' cores, so on two cores throughput can't double. If the workers'
CPU per request is constant, more cores would double it. So both are measured, and each process's
share of the machine, in turns of one worker and of two.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import uvloop

from loadtest.bench.checks import check_ours, until_enriched
from loadtest.driver import Exchange, drive
from loadtest.population import Population
from loadtest.ports import free_ports
from loadtest.processes import workers_of
from loadtest.servers import HOST, Server, Servers, cpu_s
from loadtest.service import Service
from loadtest.traffic import Traffic
from segments.store.servers.connection import connect

CONNECTIONS = 64
REQUEST_BYTES = 2_800

_COUNTS = (1, 2)
_HITS = 256
_WARM_UP = 2_000
# Longer deadlines: on a crowded machine a worker must still do the work.
_VARIABLES = {"RTB_DEADLINE_CAP_MS": "1000", "RTB_TMAX_SHARE": "1"}

Say = Callable[[str], None]


class Turn(NamedTuple):
    """A turn of a number of workers."""

    per_s: float  # answers a second
    cpu_us: float  # of the workers, an answer
    shares: Mapping[str, float]  # of the whole machine, by process


@dataclass(frozen=True)
class _Side:
    server: Server
    exchanges: Sequence[Exchange]


def workers(*, ids: int, requests: int, rounds: int, say: Say) -> None:
    """
    Run the benchmark, and print the table; `requests` go to each listener in a round.

    Raises:
        loadtest.bench.checks.WrongAnswers: A listener does not keep the contract.
    """
    with tempfile.TemporaryDirectory(prefix="rtb-workers-") as directory:
        service = Service(Path(directory), ids, 1)
        try:
            turns = uvloop.run(_measure(service, ids, requests, rounds, say))
        finally:
            service.stop()
    _print(turns, requests)


async def _measure(
    service: Service, ids: int, requests: int, rounds: int, say: Say
) -> dict[int, list[Turn]]:
    population = Population(ids)
    await service.seed(population, say)
    traffic = Traffic(population)
    hits = [traffic.plain_hit(index, REQUEST_BYTES) for index in range(_HITS)]
    async with connect(service.settings.store_url) as redis, Servers(cpu=None) as servers:
        store_pid = int((await redis.info("server"))["process_id"])
        sides = {}
        for count in _COUNTS:
            server = await _start(servers, service, count)
            await until_enriched(server, hits[0])
            sides[count] = _Side(server, await check_ours(server, hits, population))
        turns: dict[int, list[Turn]] = {count: [] for count in _COUNTS}
        for number in range(rounds):
            for count, side in sides.items():
                say(f"round {number + 1} of {rounds}, {count} worker(s)")
                turns[count].append(await _turn(side, store_pid, requests))
        return turns


async def _start(servers: Servers, service: Service, count: int) -> Server:
    port, admin_port = free_ports(2)
    env = {
        "RTB_HOST": HOST,
        "RTB_PORT": str(port),
        "RTB_OPT_OUTS_MAX_AGE_S": "0",  # no loader runs beside it
        "RTB_ADMIN_PORT": str(admin_port),
        "RTB_STOP_ACCEPTING_AFTER_S": "0",
        "SEGMENTS_REDIS_URL": service.settings.store_url,
        **_VARIABLES,
    }
    return await servers.start(
        f"{count} worker(s)",
        ["-m", "rtb", f"--workers={count}"],
        port=port,
        env=env,
        answering_pid=lambda pid: pid if len(workers_of(pid)) == count else None,
    )


async def _turn(side: _Side, store_pid: int, requests: int) -> Turn:
    port, pids = side.server.port, workers_of(side.server.pid)
    await drive(HOST, port, side.exchanges, connections=CONNECTIONS, count=_WARM_UP)

    def cpu() -> dict[str, float]:
        return {
            "workers": sum(map(cpu_s, pids)),
            "store": cpu_s(store_pid),
            "driver": time.process_time(),
        }

    before, began_s = cpu(), time.perf_counter()
    await drive(HOST, port, side.exchanges, connections=CONNECTIONS, count=requests)
    took_s, after = time.perf_counter() - began_s, cpu()
    spent = {who: after[who] - before[who] for who in after}
    cores = len(os.sched_getaffinity(0))
    return Turn(
        requests / took_s,
        spent["workers"] / requests * 1e6,
        {who: cpu_s_ / (took_s * cores) for who, cpu_s_ in spent.items()},
    )


def _print(turns: Mapping[int, Sequence[Turn]], requests: int) -> None:
    rounds = len(turns[_COUNTS[0]])
    print(
        f"\n{CONNECTIONS} connections, {REQUEST_BYTES:,} bytes, a hit of 5 segments; median of"
        f" {rounds} rounds of {requests:,}, in turns, on {len(os.sched_getaffinity(0))} cores.\n\n"
        f"  {'':12}{'answers/s':>11}{'us of CPU':>11}   share of the machine\n"
        f"  {'workers':12}{'':11}{'an answer':>11}{'workers':>10}{'store':>8}{'driver':>8}"
        f"{'others, idle':>14}"
    )
    for count, rows in turns.items():
        shares = {who: statistics.median(row.shares[who] for row in rows) for who in rows[0].shares}
        print(
            f"  {count:<12}{statistics.median(row.per_s for row in rows):11,.0f}"
            f"{statistics.median(row.cpu_us for row in rows):11.1f}"
            f"{shares['workers']:10.0%}{shares['store']:8.0%}{shares['driver']:8.0%}"
            f"{1 - sum(shares.values()):14.0%}"
        )
    one, two = (
        (
            statistics.median(r.per_s for r in turns[n]),
            statistics.median(r.cpu_us for r in turns[n]),
        )
        for n in _COUNTS
    )
    print(
        f"\n  two of one: answers/s {two[0] / one[0]:.2f}, CPU an answer {two[1] / one[1]:.2f}"
        f"; on cores of their own that would be {2 * one[1] / two[1]:.2f} times the answers"
    )
