"""
`python -m loadtest soak`: are all answers right in spite of faults? Read this first.

    service    `rtb-segments up` with two workers, seeded          loadtest/service.py
    drivers    processes that send requests and judge answers      drive.py, judge.py
    waves      opt-outs and files that change the expectations     waves.py, table.py
    faults     killed, stalled, rolled, cut, silent, refusing      faults.py, refusals.py
    shortages  of descriptors, locks, files, disk                  shortages.py

The soak holds if no answer was wrong. Answers that passed through during a fault of store or worker
are right, and counted, as are a few without a fault, on a busy machine, and answers lost with a
killed worker. A connection refused, or ended with a request in flight for another reason, is wrong;
so is a service's counter that goes back, a counted bug, or a traceback in a log.
"""

import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import cycle
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import Any

from loadtest.population import Population
from loadtest.servers import HOST
from loadtest.service import Service
from loadtest.soak.drive import drive
from loadtest.soak.faults import NAME_TO_FAULT, SILENCE_S
from loadtest.soak.outcome import Outcome, Plan
from loadtest.soak.report import print_report
from loadtest.soak.scene import Misbehaved, Scene
from loadtest.soak.shared import BROKEN, CALM, Count, Shared
from loadtest.soak.table import Change, Table, table_of
from loadtest.soak.waves import Refused, Waves
from segments.files.blobs import Blobs
from segments.ledger.database.engine import open_ledger
from segments.store.servers.connection import connect

WORKERS = 2

# Longer deadlines, because the drivers share the machine; shorter timeouts of silent clients, to
# expire during the soak.
_VARIABLES = {
    "RTB_DEADLINE_CAP_MS": "100",
    "RTB_TMAX_SHARE": "0.5",
    "RTB_BODY_TIMEOUT_S": str(SILENCE_S),
    "RTB_HEADER_TIMEOUT_S": str(SILENCE_S),
}
_CONNECTIONS = 48
_ENDED_WITHIN_S = 60
_SAY_EVERY_S = 10.0
_LOOK_EVERY_S = 1.0
_COUNTERS = ("rtb_requests_total", "rtb_request_seconds_count", "rtb_ids_total")


def soak(plan: Plan) -> bool:
    """
    Run a soak, and print its report.

    Returns:
        Whether it holds.
    """
    with tempfile.TemporaryDirectory(prefix="rtb-soak-", dir=plan.disk) as directory:
        service = Service(Path(directory), plan.ids, WORKERS, _VARIABLES)
        try:
            population = Population(plan.ids)
            asyncio.run(service.seed(population, _say))
            table = table_of(
                population,
                seed=plan.seed,
                requests=plan.different,
                waves=plan.waves,
                host=f"{HOST}:{service.port}",
            )
            _say(f"{len(table.dues):,} different requests, {len(table.waves)} waves")
            outcome = _run(service, population, table, plan)
        finally:
            status = service.stop()
        if status:
            outcome.notes.append(f"the service ended with status {status}")
        if tracebacks := service.tracebacks():
            outcome.notes.append(f"{len(tracebacks)} tracebacks in the service's log")
            _say(tracebacks[0])
    print_report(outcome)
    return outcome.holds


def _run(service: Service, population: Population, table: Table, plan: Plan) -> Outcome:
    context = get_context("spawn")
    shared = Shared(context, plan.drivers, len(table.waves))
    notes = context.Queue()
    connections = _CONNECTIONS // plan.drivers
    drivers = [
        context.Process(
            target=drive, args=(number, table.dues, service.port, connections, shared, notes)
        )
        for number in range(plan.drivers)
    ]
    for driver in drivers:
        driver.start()
    outcome = Outcome(plan, shared)
    began_s = time.monotonic()
    try:
        asyncio.run(_Course(service, population, table, outcome, drivers, notes).run())
    except (Misbehaved, Refused) as error:
        outcome.notes.append(str(error))
    finally:
        shared.ends()
        outcome.took_s = time.monotonic() - began_s
        for driver in drivers:
            driver.join(_ENDED_WITHIN_S)
            if driver.exitcode != 0:
                outcome.notes.append(f"a driver ended with status {driver.exitcode}")
                driver.kill()
    outcome.counted = asyncio.run(service.metrics())["rtb_requests_total"]
    if outcome.counted < shared.total(Count.ANSWERED):
        outcome.notes.append("the service counted fewer requests than were answered")
    return outcome


class _Course:
    def __init__(
        self,
        service: Service,
        population: Population,
        table: Table,
        outcome: Outcome,
        drivers: Sequence[BaseProcess],
        notes: Any,
    ) -> None:
        self._service = service
        self._population = population
        self._table = table
        self._outcome = outcome
        self._drivers = drivers
        self._notes = notes
        self._doing = ""
        self._stop = asyncio.Event()
        self._began_s = time.monotonic()

    async def run(self) -> None:
        """Run waves and faults; SIGTERM or SIGINT end early, with a report."""
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signal_number, self._stop.set)
        settings = self._service.settings
        async with AsyncExitStack() as running:
            ledger = await running.enter_async_context(open_ledger(settings.ledger_dsn))
            redis = await running.enter_async_context(connect(settings.store_url))
            shared, plan = self._outcome.shared, self._outcome.plan
            waves = Waves(
                self._table.waves,
                self._population,
                ledger,
                redis,
                Blobs.open(settings.blobs_at),
                shared,
            )
            scene = Scene(
                self._service, redis, ledger, waves, shared, self._table.dues, Random(plan.seed)
            )
            watching = asyncio.create_task(self._watch())
            changing = asyncio.create_task(waves.run(plan.calm_s))
            try:
                await self._until_answers()
                await self._disturb(scene, changing)
                while waves.over < len(Change) and not self._stop.is_set():
                    await self._pause(0.1, changing)
            finally:
                self._outcome.waves_over = waves.over
                self._outcome.opt_outs_waited = waves.waited
                self._outcome.refused = waves.refused
                for task in (watching, changing):
                    task.cancel()
                await asyncio.wait((watching, changing))

    async def _until_answers(self) -> None:
        """Wait for each driver's first answer: a start is no fault of the service."""
        while any(
            not self._outcome.shared.of(number)[Count.ANSWERED]
            for number in range(self._outcome.plan.drivers)
        ):
            await self._pause(0.1)

    async def _disturb(self, scene: Scene, changing: "asyncio.Task[None]") -> None:
        """Inject faults until there are enough answers, each fault at least once."""
        outcome = self._outcome
        for name in cycle(outcome.plan.faults):
            if self._stop.is_set():
                return
            is_enough = outcome.shared.total(Count.ANSWERED) >= outcome.plan.requests
            if is_enough and all(outcome.fault_to_times.values()):
                return
            self._doing = name
            _say(f"{time.monotonic() - self._began_s:7.1f} s {name}")
            await NAME_TO_FAULT[name](scene)
            outcome.fault_to_times[name] += 1
            self._doing = ""
            _say(f"{time.monotonic() - self._began_s:7.1f} s calm")
            await self._pause(outcome.plan.calm_s, changing)

    async def _pause(self, pause_s: float, changing: "asyncio.Task[None] | None" = None) -> None:
        """Pause without a fault; raise if a driver or the waves ended early."""
        await asyncio.sleep(pause_s)
        if changing is not None and changing.done():
            changing.result()
        if any(driver.exitcode is not None for driver in self._drivers):
            raise Misbehaved("a driver ended before its time")

    async def _watch(self) -> None:
        """Report progress; check that no counter of the service goes back."""
        before: dict[str, float] = {}
        said_at_s = self._began_s
        while True:
            before = await self._look_at_counters(before)
            while not self._notes.empty():
                self._outcome.notes.append(self._notes.get())
                _say(f"WRONG: {self._outcome.notes[-1]} ({self._doing or 'calm'})")
            if time.monotonic() - said_at_s > _SAY_EVERY_S:
                said_at_s = time.monotonic()
                self._say_progress(said_at_s - self._began_s)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _look_at_counters(self, before: dict[str, float]) -> dict[str, float]:
        now = await self._service.metrics()
        for name in _COUNTERS:
            if now[name] < before.get(name, 0.0):
                self._outcome.notes.append(f"{name} went back")
        if now["rtb_faults_total"] > before.get("rtb_faults_total", 0.0):
            self._outcome.notes.append("the service counted a bug")
        return now

    def _say_progress(self, took_s: float) -> None:
        shared = self._outcome.shared
        total = shared.total
        answered = total(Count.ANSWERED)
        _say(
            f"{took_s:7.0f} s {answered:>12,} answers {answered / took_s:8,.0f}/s"
            f" {total(Count.WRONG):,} wrong, {total(Count.LOST):,} lost, passed through:"
            f" {shared.passed_through(BROKEN):,} broken, {shared.passed_through(CALM):,} calm;"
            f" {self._doing or 'calm'}"
        )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
