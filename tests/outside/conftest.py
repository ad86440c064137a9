"""A ledger of its own for each test; which database it is, is no outsider's affair."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.engine import open_ledger
from segments.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", expected_ids=10_000)


@pytest.fixture
async def ledger(settings: Settings) -> AsyncIterator[AsyncEngine]:
    async with open_ledger(settings.ledger_dsn) as ledger:
        yield ledger
