"""
`python -m loadtest tails`: latency at rest, beside a load, and through a stall of the store.

Ours and Go's fasthttp are asked in an open loop over `CONNECTIONS` connections, at 2,000 and 10,000
bids/s and at 30 and 60 % of their own saturation (by `wrk`):

    quiet    nothing else is at work
    stall    the store's process is stopped for a second from the first bid on (SIGSTOP, SIGCONT)
    load     a loader merges files of `Extent.rows` other persons into the same store

A bid is late after 20 ms, and passes through. Latency counts from a bid's due time. Driver, store
and loader share a CPU.
"""

import os
import signal
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import uvloop

from loadtest.bench import saturation
from loadtest.bench.checks import WrongAnswers
from loadtest.bench.costs import TRIES, say
from loadtest.bench.load_at_work import Load, loading
from loadtest.bench.low_rates import ready
from loadtest.bench.peers.build import Deadline
from loadtest.bench.rows import Rows
from loadtest.bench.stage import NotPossible, PeerStage, staged_beside_go
from loadtest.bench.tails_report import LOAD, QUIET, STALL, Extent, Found, Point, Tail, report
from loadtest.driver import Exchange, is_late
from loadtest.open_loop import Sample, open_loop, poisson_ns
from loadtest.percentile import percentile
from loadtest.servers import HOST, Server

CONNECTIONS = 32
RATES_PER_S = (2_000, 10_000)
SHARES = (0.3, 0.6)
STALL_S = 1.0

_NS_PER_MS = 1_000_000
_SATURATION_S = 2


def tails(extent: Extent) -> str:
    """
    Run the benchmark, and return its table.

    Raises:
        WrongAnswers: A server does not keep the contract, or loads are too short.
        WrongCount: The loader ended.
        NotPossible: There is no peer, or no driver.
    """
    if not saturation.is_possible():
        raise NotPossible("wrk is not installed")
    with tempfile.TemporaryDirectory(prefix="rtb-tails-") as directory:
        return uvloop.run(_tails(Path(directory), extent))


async def _tails(directory: Path, extent: Extent) -> str:
    async with staged_beside_go(directory, extent.ids, Deadline(), more_ids=extent.rows) as stage:
        run = _Run(stage, await ready(stage), extent)
        await run.find_rates()
        for number in range(extent.rounds):
            say(f"round {number + 1} of {extent.rounds}: quiet, and through a stall")
            run.quiet(number)
            run.stalled(number)
        if extent.rows:
            async with loading(stage.redis, stage.settings, Rows(extent.rows)) as load:
                for number in range(extent.rounds):
                    say(f"round {number + 1} of {extent.rounds}: beside a load")
                    await run.loaded(number, load)
        return report(stage.head, extent, run.found)


class _Run:
    def __init__(
        self, stage: PeerStage, asked: Mapping[Server, Sequence[Exchange]], extent: Extent
    ) -> None:
        self.found: Found = {}
        self._stage = stage
        self._asked = asked
        self._extent = extent
        self._rates: list[tuple[Server, str, float]] = []
        self._store_pid = 0

    async def find_rates(self) -> None:
        self._store_pid = int((await self._stage.redis.info("server"))["process_id"])
        for server, exchanges in self._asked.items():
            most = await saturation.saturate(
                server,
                exchanges,
                connections=CONNECTIONS,
                seconds=_SATURATION_S,
                directory=self._stage.directory,
            )
            self._rates += [(server, f"{rate:,}/s", rate) for rate in RATES_PER_S]
            self._rates += [
                (server, f"{share:.0%}", share * most.requests_per_s) for share in SHARES
            ]

    def quiet(self, number: int) -> None:
        for server, rate, rate_per_s in self._rates:
            self._note(QUIET, rate, server, self._tail(server, rate_per_s, number))

    def stalled(self, number: int) -> None:
        for server, rate, rate_per_s in self._rates:
            os.kill(self._store_pid, signal.SIGSTOP)
            resume = threading.Timer(STALL_S, os.kill, (self._store_pid, signal.SIGCONT))
            resume.start()
            try:
                tail = self._tail(server, rate_per_s, number)
            finally:
                resume.join()
            self._note(STALL, rate, server, tail)

    async def loaded(self, number: int, load: Load) -> None:
        """
        Measure while files are loaded.

        Raises:
            WrongAnswers: Every load was shorter than its run.
        """
        for server, rate, rate_per_s in self._rates:
            for _ in range(TRIES):
                await load.keep_at_work()
                tail = self._tail(server, rate_per_s, number)
                if await load.is_at_work():
                    break
                say("the load ended before; once more")
            else:
                raise WrongAnswers("a load is shorter than a run: --rows wants more")
            self._note(LOAD, rate, server, tail)

    def _note(self, condition: str, rate: str, server: Server, tail: Tail) -> None:
        self.found.setdefault(Point(condition, rate, server.name), []).append(tail)

    def _tail(self, server: Server, rate_per_s: float, number: int) -> Tail:
        exchanges = self._asked[server]
        count = round(rate_per_s * self._extent.seconds)
        samples = open_loop(
            (HOST, server.port),
            [exchange.sent for exchange in exchanges],
            due_ns=poisson_ns(rate_per_s, count, Random(number)),
            connections=CONNECTIONS,
            read=lambda request, received: is_late(received, exchanges[request].answer),
        )
        if any(sample.answer is None for sample in samples):
            raise WrongAnswers(f"{server.name}: closed a connection with a bid in flight")
        return _tail_of(samples)


def _tail_of(samples: Sequence[Sample[bool]]) -> Tail:
    ms = sorted(sample.latency_ns / _NS_PER_MS for sample in samples)
    held_up_ms = sorted(sample.held_up_ns / _NS_PER_MS for sample in samples)
    late = sum(sample.answer is True for sample in samples) / len(samples)
    p50, p99, p999 = (percentile(ms, percent) for percent in (50, 99, 99.9))
    return Tail(p50, p99, p999, percentile(held_up_ms, 99), late)
