"""A sandbox of the shop's, and its client, for whichever test makes none of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.settings import Settings
from tests.engines import Engine
from tests.segments.doors.external_audience.external_world import External, external_served


@pytest.fixture
async def external(
    settings: Settings, ledger: AsyncEngine, valkey: Engine, tmp_path: Path
) -> AsyncIterator[External]:
    """Served over a store of its own."""
    async with external_served(settings, ledger, valkey, tmp_path / "customer") as external:
        yield external
