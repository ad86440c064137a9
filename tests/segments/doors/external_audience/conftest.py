"""A sandbox of the shop's, and its client, for whichever test makes none of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.ledger_seed import seed
from tests.rest import serving
from tests.segments.doors.external_audience.external_world import External, external_of


@pytest.fixture
async def external(
    settings: Settings, ledger: AsyncEngine, valkey: Engine, tmp_path: Path
) -> AsyncIterator[External]:
    """Served over a store of its own."""
    seeded = await seed(ledger)
    async with connect(valkey.url) as redis:
        await prepare(redis, settings.expected_ids)
        async with (
            serving(settings, ledger, redis) as rest,
            external_of(rest, seeded, tmp_path / "customer") as external,
        ):
            yield external
