"""
`python -m loadtest regions`: the delay of an opt-out in a second region. Read this first.

    first region    `rtb-segments up`, seeded: the ledger, a store, bids     loadtest/service.py
                    `rtb-segments publish`, and a bucket
    slow link       100 ms in each direction, and cut once                   slow_link.py
    second region   `rtb-segments serve --follow`: a store, bids             second_region.py
    drivers         one for each region, which judge every answer            loadtest/soak/drive.py
    waves           opt-outs and files, by the ledger of the first region    waves_of_both.py

Both regions get the same requests. In the first, an answer that begins after an acknowledgement
must obey it; in the second, `Plan.no_within_s` later, or, while the link is cut, when the data
there are too old to be used (`RTB_FOLLOW_MAX_AGE_S`). The simulation holds if no answer was wrong.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from loadtest.population import Population
from loadtest.regions.outcome import Outcome, Plan, print_report
from loadtest.regions.second_region import PUBLICATION, SecondRegion, bucket, bucket_env
from loadtest.regions.slow_link import SlowLink
from loadtest.regions.waves_of_both import AFTER_S, WavesOfBoth
from loadtest.running import Running
from loadtest.servers import HOST
from loadtest.service import Service
from loadtest.soak.drive import drive
from loadtest.soak.shared import Count, Shared
from loadtest.soak.table import table_of
from segments.files.blobs import Blobs
from segments.ledger.database.engine import open_ledger
from segments.store.published.latest import public_text
from segments.store.published.signing_key import make_key
from segments.store.servers.connection import connect

MAX_AGE_S = 60.0
"""`RTB_FOLLOW_MAX_AGE_S` of the second region: its least."""

# Both regions share the machine.
_VARIABLES = {"RTB_DEADLINE_CAP_MS": "100", "RTB_TMAX_SHARE": "0.5"}
_CONNECTIONS = 4
_MENDED_WITHIN_S = 90.0
_ENDED_WITHIN_S = 60
_ASK_EVERY_S = 0.05


def regions(plan: Plan) -> bool:
    """
    Run the simulation, and print its report.

    Returns:
        Whether it holds.
    """
    outcome = Outcome(plan)
    with tempfile.TemporaryDirectory(prefix="rtb-regions-") as directory:
        asyncio.run(_run(plan, outcome, Path(directory)))
    print_report(outcome)
    return outcome.holds


async def _run(plan: Plan, outcome: Outcome, directory: Path) -> None:
    for name in ("first", "second"):
        (directory / name).mkdir()
    population = Population(plan.ids)
    async with AsyncExitStack() as running:
        first = Service(directory / "first", plan.ids, 1, _VARIABLES)
        running.enter_context(_stopped(first, "first", outcome))
        await first.seed(population, _say)
        key_file = directory / "publish.pem"
        public_key = public_text(make_key(key_file).public_key())
        bucket_port = running.enter_context(bucket())
        running.enter_context(_publishing(directory, key_file, bucket_port, plan))
        link = await running.enter_async_context(SlowLink(bucket_port, plan.delay_s))
        second = SecondRegion(
            directory / "second",
            link.port,
            public_key,
            _VARIABLES
            | {"RTB_FOLLOW_POLL_S": f"{plan.poll_s:g}", "RTB_FOLLOW_MAX_AGE_S": f"{MAX_AGE_S:g}"},
        )
        running.enter_context(_stopped(second, "second", outcome))
        await second.until("the second region is ready", second.is_ready)
        table = table_of(
            population,
            seed=plan.seed,
            requests=plan.different,
            waves=plan.waves,
            host=f"{HOST}:{first.port}",
        )
        _say(f"{len(table.dues):,} different requests, {len(table.waves)} waves")
        context = get_context("spawn")
        notes = context.Queue()
        shared = [Shared(context, 1, len(table.waves)) for _ in range(2)]
        outcome.shared = shared
        drivers = [
            context.Process(target=drive, args=(0, table.dues, port, _CONNECTIONS, cells, notes))
            for port, cells in zip((first.port, second.port), shared, strict=True)
        ]
        running.enter_context(_driving(drivers, shared, notes, outcome))
        ledger = await running.enter_async_context(open_ledger(first.settings.ledger_dsn))
        redis = await running.enter_async_context(connect(first.settings.store_url))
        waves = WavesOfBoth(
            table,
            population,
            ledger,
            redis,
            Blobs.open(first.settings.blobs_at),
            shared,
            second.port,
            outcome,
        )
        await _until_both_answer(shared)
        await waves.run(plan.calm_s)
        await waves.settled()
        if plan.is_cut:
            await _cut(link, second, waves, shared[1], outcome)
        outcome.waves_over = waves.over


async def _cut(
    link: SlowLink, second: Running, waves: WavesOfBoth, shared: Shared, outcome: Outcome
) -> None:
    """Cut the link, opt out in the first region, and mend it once the second enriches nothing."""
    waves.obeyed_within_s, waves.seen_within_s = MAX_AGE_S, _MENDED_WITHIN_S

    async def is_closed() -> bool:
        return await second.unready() > 0

    with link.cut():
        _say("the link is cut")
        shared.breaks()
        begun = await waves.begin_no()
        assert begun is not None, "waves of opt-outs are reserved"
        began_s = time.monotonic()
        await second.until("the second region enriches nothing", is_closed)
        outcome.closed_after_s = time.monotonic() - began_s
        await asyncio.sleep(max(0.0, began_s + MAX_AGE_S + AFTER_S - time.monotonic()))
    _say("the link is mended")
    await second.until("the second region is ready again", second.is_ready)
    shared.mended(time.monotonic_ns())
    await waves.settled()


async def _until_both_answer(shared: Sequence[Shared]) -> None:
    while not all(cells.total(Count.ANSWERED) for cells in shared):  # noqa: ASYNC110 - processes
        await asyncio.sleep(_ASK_EVERY_S)


@contextmanager
def _stopped(process: Running, name: str, outcome: Outcome) -> Iterator[None]:
    """Stop a region at the end, and check its exit."""
    try:
        yield
    finally:
        if status := process.stop():
            outcome.notes.append(f"the {name} region ended with status {status}")
        if tracebacks := process.tracebacks():
            outcome.notes.append(f"{len(tracebacks)} tracebacks in the {name} region's log")
            _say(tracebacks[0])


@contextmanager
def _publishing(directory: Path, key_file: Path, bucket_port: int, plan: Plan) -> Iterator[None]:
    env: Mapping[str, str] = (
        {name: value for name, value in os.environ.items() if "RTB_" not in name}
        | bucket_env(bucket_port)
        | {
            "SEGMENTS_DATA_DIR": str(directory / "first"),
            "SEGMENTS_REDIS_URL": "",
            "SEGMENTS_PUBLISH_KEY_FILE": str(key_file),
            "SEGMENTS_PUBLISH_OPT_OUTS_S": f"{plan.opt_outs_every_s:g}",
        }
    )
    argv = [sys.executable, "-m", "segments", "publish", "--to", PUBLICATION, "--everything"]
    with (directory / "publish.log").open("wb") as log, ExitStack() as ending:
        process = subprocess.Popen(argv, env=env, stdout=log, stderr=log)
        ending.callback(process.kill)
        yield
        process.terminate()
        process.wait(_ENDED_WITHIN_S)


@contextmanager
def _driving(
    drivers: Sequence[BaseProcess], shared: Sequence[Shared], notes: Any, outcome: Outcome
) -> Iterator[None]:
    for driver in drivers:
        driver.start()
    began_s = time.monotonic()
    try:
        yield
    finally:
        for cells in shared:
            cells.ends()
        outcome.took_s = time.monotonic() - began_s
        for driver in drivers:
            driver.join(_ENDED_WITHIN_S)
            if driver.exitcode != 0:
                outcome.notes.append(f"a driver ended with status {driver.exitcode}")
                driver.kill()
        while not notes.empty():
            outcome.notes.append(notes.get())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
