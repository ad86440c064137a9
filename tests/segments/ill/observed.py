"""What an operator sees of an ill service: findings of `doctor`, and a loader that runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from segments.loader.loader import Loader
from segments.upkeep.doctor.examination import examine
from segments.upkeep.doctor.findings import Deployment, Grade
from tests.edge.client import WITHIN_S
from tests.segments.doors.rest.rest_world import RestDoors


async def wrong_by_doctor(world: RestDoors) -> list[str]:
    """Return the faults that `doctor` finds."""
    settings = world.rest.settings
    deployment = Deployment(
        ledger_url=settings.ledger_dsn,
        store_url=settings.store_url,
        bids_store_url=settings.store_url,
        embedded_store=settings.embedded_store,
        expected_ids=settings.expected_ids,
        blobs_at=settings.data_dir / "blobs",
        data_dir=settings.data_dir,
        reserve_bytes=0,
    )
    return [finding.what async for finding in examine(deployment) if finding.grade is Grade.BAD]


@asynccontextmanager
async def running(loader: Loader) -> AsyncIterator[None]:
    """Run a loader beside the test."""
    stopping = asyncio.Event()
    task = asyncio.create_task(loader.run(stopping))
    try:
        yield
    finally:
        stopping.set()
        async with asyncio.timeout(WITHIN_S):
            await task
