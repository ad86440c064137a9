"""Fixtures of the control plane: settings of its own for each test, and a real ledger."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.engine import open_ledger
from segments.settings import Settings
from tests.postgres import Postgres
from tests.segments.backups import Backups


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings under which everything lies in the test's own directory."""
    return Settings(data_dir=tmp_path / "data", expected_ids=10_000)


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable or `.env` file of whoever runs the tests takes part."""
    monkeypatch.chdir(tmp_path)
    for name in ("REDIS_URL", "LEDGER_URL", "BLOB_URL", "EXPECTED_IDS", "DATA_DIR"):
        monkeypatch.delenv(f"SEGMENTS_{name}", raising=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """Settings of a ledger that nobody has opened yet, once of each database."""
    if request.param == "sqlite":
        return settings
    on_postgres: Settings = request.getfixturevalue("postgres_settings")
    return on_postgres


async def _migrate(settings: Settings) -> None:
    async with open_ledger(settings.ledger_dsn):
        pass


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A SQLite ledger, migrated once for all tests that begin with an empty one.

    A tenth of a second for each of a thousand tests; what migrating does has tests of its own.
    """
    settings = Settings(data_dir=tmp_path_factory.mktemp("migrated"))
    asyncio.run(_migrate(settings))
    return settings.data_dir / "ledger.db"


@pytest.fixture(scope="session")
def migrated_database(
    postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The same on PostgreSQL, as a template."""
    name = postgres_server.new_database()
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("migrated"), ledger_url=postgres_server.url(name)
    )
    asyncio.run(_migrate(settings))
    yield name
    postgres_server.start()
    postgres_server.drop(name)


@pytest.fixture
def database(postgres: Postgres, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of an empty database of `postgres`; for `ledger`, of one that was migrated."""
    options = ""
    if "ledger" in request.fixturenames:
        options = f"template {request.getfixturevalue('migrated_database')}"
    name = postgres.new_database(options)
    yield name
    postgres.start()
    postgres.drop(name)


@pytest.fixture
def postgres_settings(postgres: Postgres, database: str, settings: Settings) -> Settings:
    """Settings of a ledger in `database`, which nobody has opened yet."""
    return settings.model_copy(update={"ledger_url": postgres.url(database)})


@pytest.fixture
def migrated_settings(ledger_settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """Settings of a ledger that was migrated, and is empty."""
    if ledger_settings.ledger_url is None:
        ledger_settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy2(request.getfixturevalue("migrated_file"), ledger_settings.data_dir)
    return ledger_settings


@pytest.fixture
async def ledger(migrated_settings: Settings) -> AsyncIterator[AsyncEngine]:
    """A fresh ledger; each test runs on both databases."""
    async with open_ledger(migrated_settings.ledger_dsn) as opened:
        yield opened


@pytest.fixture
def backups(
    tmp_path: Path, ledger_settings: Settings, request: pytest.FixtureRequest
) -> Iterator[Backups]:
    """What takes backups of `ledger`."""
    is_sqlite = ledger_settings.ledger_url is None
    taken = Backups(tmp_path, None if is_sqlite else request.getfixturevalue("postgres"))
    yield taken
    taken.drop()
