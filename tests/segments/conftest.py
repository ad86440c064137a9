"""Fixtures of the control plane: settings of its own for each test, and a real ledger."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.engine import open_ledger
from segments.settings import Settings
from tests.postgres import Postgres


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings under which everything lies in the test's own directory."""
    return Settings(data_dir=tmp_path / "data", expected_ids=10_000)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """Settings of a ledger that nobody has opened yet, once of each database."""
    if request.param == "sqlite":
        return settings
    on_postgres: Settings = request.getfixturevalue("postgres_settings")
    return on_postgres


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The name of an empty database of `postgres`."""
    name = postgres.new_database()
    yield name
    postgres.start()
    postgres.drop(name)


@pytest.fixture
def postgres_settings(postgres: Postgres, database: str, settings: Settings) -> Settings:
    """Settings of a ledger in `database`, which nobody has opened yet."""
    return settings.model_copy(update={"ledger_url": postgres.url(database)})


@pytest.fixture
async def ledger(ledger_settings: Settings) -> AsyncIterator[AsyncEngine]:
    """A fresh ledger, migrated as the product does it; each test runs on both databases."""
    async with open_ledger(ledger_settings) as opened:
        yield opened
