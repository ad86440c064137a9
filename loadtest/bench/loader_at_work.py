"""A loader at work beside a store that began empty, and the costs of its loads."""

import asyncio
import os
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from loadtest.bench.load_rate_report import Measured
from loadtest.bench.stores import Store
from loadtest.servers import cpu_s
from segments.ledger import accounts, jobs
from segments.ledger.database.engine import open_ledger, reading
from segments.model.account import AccountKind
from segments.model.job import Job, JobState
from segments.projection.catalog import catch_up
from segments.runtime import child_process
from segments.settings import Settings
from segments.store import keys
from segments.store.servers.connection import connect

PARTNER_ID = "bench"
_POLL_S = 0.1
_STOP_WITHIN_S = 30


class WrongCount(Exception):
    """The rows were not all loaded, so a rate would mean nothing."""


class Loading(NamedTuple):
    """A loader beside a store that began empty."""

    store: Store
    settings: Settings
    ledger: AsyncEngine
    loader: Process
    empty_bytes: int  # memory of the store before

    def cpu_s(self) -> tuple[float, float]:
        """Return the CPU time of store and loader."""
        return self.store.cpu_s(), cpu_s(self.loader.pid)

    async def cost_of(self, rows: int, job: Job, before: tuple[float, float]) -> Measured:
        """Divide time, CPU since `before`, and the store's memory by the rows of a done job."""
        assert job.started_at_s is not None, "done, so it was begun"
        assert job.finished_at_s is not None, "done"
        held_bytes = await self.store.used_bytes() - self.empty_bytes
        took_s = job.finished_at_s - job.started_at_s
        return measured_of(rows, took_s, before, self.cpu_s(), held_bytes)


@asynccontextmanager
async def loading_into(
    store_to_be: AbstractAsyncContextManager[Store], data_dir: Path, expected_ids: int
) -> AsyncIterator[Loading]:
    """
    Run an empty store and a loader, with a ledger and blobs in `data_dir`.

    Raises:
        WrongCount: The loader ended.
    """
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(store_to_be)
        settings = Settings(
            data_dir=data_dir,
            redis_url=store.url,
            ledger_url=None,
            blob_url=None,
            expected_ids=expected_ids,
        )
        redis = await stack.enter_async_context(connect(store.url))
        ledger = await stack.enter_async_context(open_ledger(settings.ledger_dsn))
        await catch_up(ledger, redis, settings.expected_ids)
        loader = await stack.enter_async_context(loader_at_work(ledger, redis, settings))
        yield Loading(store, settings, ledger, loader, await store.used_bytes())


@asynccontextmanager
async def loader_at_work(
    ledger: AsyncEngine, redis: Redis, settings: Settings
) -> AsyncIterator[Process]:
    """
    Add the partner of the files, and run a loader on the CPUs of this thread until the end.

    Its start, up to the first sweep, is over and not measured.

    Raises:
        WrongCount: The loader ended.
    """
    async with ledger.begin() as conn:
        await accounts.add_account(
            conn, AccountKind.ADVERTISER, PARTNER_ID, "Bench", now_s=time.time()
        )
    loader = await child_process.start(
        [sys.executable, "-m", "segments", "loader"], env=environment_of(settings)
    )
    try:
        while not await redis.exists(keys.SWEPT):
            await look_again(loader)
        yield loader
    finally:
        await child_process.stop(loader, within_s=_STOP_WITHIN_S)


async def ended(ledger: AsyncEngine, job: Job, loader: Process) -> Job:
    """
    Wait for a job's end; return it.

    Raises:
        WrongCount: The loader ended.
    """
    while job.state in (JobState.QUEUED, JobState.RUNNING):
        await look_again(loader)
        async with reading(ledger) as conn:
            job = await jobs.job(conn, job.id) or job
    return job


async def look_again(process: Process, name: str = "loader") -> None:
    """
    Pause before the next look.

    Raises:
        WrongCount: The process ended.
    """
    if process.returncode is not None:
        raise WrongCount(f"the {name} ended with status {process.returncode}")
    await asyncio.sleep(_POLL_S)


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the environment of a command beside the bench's store and ledger."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SEGMENTS_")}
    return environment | {
        "SEGMENTS_DATA_DIR": str(settings.data_dir),
        "SEGMENTS_REDIS_URL": settings.store_url,
        "SEGMENTS_EXPECTED_IDS": str(settings.expected_ids),
    }


def measured_of(
    rows: int,
    took_s: float,
    before: tuple[float, float],
    after: tuple[float, float],
    held_bytes: int,
) -> Measured:
    """Divide a load's time, CPU seconds (of store and client) and memory by its rows."""
    server_us, client_us = ((b - a) / rows * 1e6 for a, b in zip(before, after, strict=True))
    return Measured(rows / took_s, server_us, client_us, held_bytes / rows)
