"""The console over a real ledger and a real store, for one test alone."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from tests.console import Served, serving_console
from tests.engines import Engine
from tests.ledger_seed import Seeded, seed


@pytest.fixture
def ledger_settings(settings: Settings) -> Settings:
    """SQLite alone: the queries have their tests on both databases beside the ledger's others."""
    return settings


@pytest.fixture
async def seeded(ledger: AsyncEngine) -> Seeded:
    """One of everything in the ledger."""
    return await seed(ledger)


@pytest.fixture
async def console(settings: Settings, ledger: AsyncEngine, valkey: Engine) -> AsyncIterator[Served]:
    """The console, served."""
    async with connect(valkey.url) as redis:
        await prepare(redis, settings.expected_ids)
        async with serving_console(settings, ledger, redis) as served:
            yield served
