"""Fixtures of the control plane: settings of its own for each test, and a real ledger."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.engine import open_ledger
from segments.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings under which everything lies in the test's own directory."""
    return Settings(data_dir=tmp_path / "data", expected_ids=10_000)


@pytest.fixture
async def ledger(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """A fresh ledger, migrated as the product does it."""
    async with open_ledger(settings) as opened:
        yield opened
