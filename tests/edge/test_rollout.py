"""A loader is replaced by another, as at each release, and no bid notices."""

import asyncio
import os
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from rtb.lookup.freshness import note_command
from segments.ledger.database.engine import open_ledger
from segments.model.identity import id_of_email_hash
from segments.model.record import Change
from segments.projection.catalog import catch_up
from segments.settings import Settings
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from tests.edge.client import connected
from tests.edge.small_store import MEMBER, Service, bid_request, started
from tests.engines import Engine
from tests.ledger_seed import seed

MAX_AGE_S = 20.0
"""A third of what is set unless an operator says otherwise; a start takes some seconds."""


class Rollout:
    """Loaders as processes of their own, on one ledger and one store."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: list[Process] = []

    async def start(self) -> None:
        env = {name: value for name, value in os.environ.items() if "SEGMENTS_" not in name}
        env["SEGMENTS_DATA_DIR"] = str(self._settings.data_dir)
        env["SEGMENTS_REDIS_URL"] = str(self._settings.redis_url)
        self._running.append(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "segments", "loader"),
                env=env,
                stdout=DEVNULL,
                stderr=DEVNULL,
            )
        )

    async def stop_oldest(self) -> None:
        process = self._running.pop(0)
        process.terminate()
        await process.wait()

    async def stop(self) -> None:
        while self._running:
            await self.stop_oldest()


@pytest.fixture
async def rollout(valkey: Engine, tmp_path: Path) -> AsyncIterator[Rollout]:
    """A ledger and a store with a member in it; no loader yet."""
    settings = Settings(data_dir=tmp_path / "data", redis_url=valkey.url, expected_ids=10_000)
    async with open_ledger(settings.ledger_dsn) as ledger, connect(valkey.url) as redis:
        seeded = await seed(ledger)
        meta = await catch_up(ledger, redis, settings.expected_ids)
        await Writer(redis, meta).merge(
            [id_of_email_hash(MEMBER)], [Change(seeded.shoes.id, is_add=True)]
        )
    rollout = Rollout(settings)
    yield rollout
    await rollout.stop()


@asynccontextmanager
async def bidding(service: Service, outcomes: list[str]) -> AsyncIterator[None]:
    async def bid() -> None:
        async with connected(service.port) as client:
            while True:
                outcomes.append((await client.post(bid_request(MEMBER))).outcome)
                await asyncio.sleep(0.02)

    asking = asyncio.create_task(bid())
    try:
        yield
    finally:
        asking.cancel()
        await asyncio.wait([asking])


async def note_of(redis: Redis) -> int:
    return int(await redis.execute_command(*note_command()) or 0)  # type: ignore[no-untyped-call] # redis-py


async def started_up(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what a new process brings about: on a busy machine its imports take a while."""
    async with asyncio.timeout(60):
        while not await is_so():  # noqa: ASYNC110 - of another process, which sets no event
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("is_first_to_go", [False, True], ids=["new, then old", "old, then new"])
async def test_loader_is_replaced_and_no_opt_out_is_taken_for_stale(
    valkey: Engine, rollout: Rollout, is_first_to_go: bool
) -> None:
    outcomes: list[str] = []
    async with (
        connect(valkey.url) as redis,
        started(valkey.url, opt_outs_max_age_s=MAX_AGE_S) as service,
    ):

        async def is_up() -> bool:
            return service.is_up

        async def has_spoken() -> bool:
            return await note_of(redis) > before

        await rollout.start()
        await started_up(is_up)
        async with bidding(service, outcomes):
            if is_first_to_go:
                await rollout.stop_oldest()
                await rollout.start()
            else:
                await rollout.start()
                await rollout.stop_oldest()
            old_is_gone_s, before = time.monotonic(), await note_of(redis)
            await started_up(has_spoken)
            # For longer than what the old one said is good for.
            await asyncio.sleep(old_is_gone_s + MAX_AGE_S + 1 - time.monotonic())

        assert service.count("store_down", "opt_outs_stale") == 0
    assert set(outcomes) == {"enriched"}
