"""Fixtures of the doors: a world for a delivery to go through."""

import time
from collections.abc import AsyncIterator

import pytest

from segments.files.blobs import Blobs
from segments.ledger.database.engine import open_ledger
from segments.settings import Settings
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.segments.doors.live_audience.drop_world import WAIT_S, Clock, DropDoor


@pytest.fixture
async def world(settings: Settings, valkey: Engine) -> AsyncIterator[DropDoor]:
    """
    A drop folder in which a file is complete as soon as it is written.

    On SQLite: what differs on PostgreSQL are the queries, which have tests of their own.
    """
    plain = settings.model_copy(update={"drop_quiet_s": 0.0, "drop_wait_s": WAIT_S})
    blobs = Blobs.in_directory(settings.data_dir / "blobs")
    async with connect(valkey.url) as redis, open_ledger(settings.ledger_dsn) as ledger:
        # Ahead of the files of a test, however long that takes on a busy machine.
        world = DropDoor(plain, ledger, redis, blobs, Clock(time.time() + 30))
        await world.open_accounts()
        yield world
