"""The doors over a real ledger and a real store, for this test alone."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.ledger_seed import Seeded, seed
from tests.rest import Rest, serving


@pytest.fixture
async def seeded(ledger: AsyncEngine) -> Seeded:
    """One of everything in the ledger."""
    return await seed(ledger)


@pytest.fixture
async def rest(settings: Settings, ledger: AsyncEngine, valkey: Engine) -> AsyncIterator[Rest]:
    """The doors, served."""
    async with connect(valkey.url) as redis:
        await prepare(redis, settings.expected_ids)
        async with serving(settings, ledger, redis) as rest:
            yield rest
