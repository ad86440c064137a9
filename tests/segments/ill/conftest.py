"""A small disk that holds all that the control plane keeps, or a part of it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.settings import Settings
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.ledger_seed import seed
from tests.rest import serving
from tests.segments.doors.rest.rest_world import RestDoors, world_of
from tests.small_disk import MIB, SmallDisk, mounted

SIZE_BYTES = 64 * MIB
RESERVE_BYTES = 16 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk on which blobs and spool lie; the ledger lies on another."""
    with mounted(tmp_path / "small", size_bytes=SIZE_BYTES) as disk:
        yield disk


@pytest.fixture
async def world(
    settings: Settings, ledger: AsyncEngine, valkey: Engine, disk: SmallDisk
) -> AsyncIterator[RestDoors]:
    """The REST doors and a loader, whose files lie on the small disk."""
    small = settings.model_copy(update={"data_dir": disk.path, "reserve_bytes": RESERVE_BYTES})
    seeded = await seed(ledger)
    async with (
        connect(valkey.url) as redis,
        serving(small, ledger, redis) as rest,
        world_of(rest, seeded) as world,
    ):
        yield world
