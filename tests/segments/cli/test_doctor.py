"""What an operator is told who asks what is wrong."""

import asyncio

import pytest

from segments.ledger.database.engine import open_ledger
from segments.projection.catalog import catch_up
from segments.settings import Settings
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.segments.cli.conftest import Command


@pytest.fixture
def on_engine(engine: Engine, run: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command on a store of each engine, caught up with its ledger."""
    monkeypatch.setenv("SEGMENTS_REDIS_URL", engine.url)

    async def prepare() -> None:
        settings = Settings()
        async with open_ledger(settings.ledger_dsn) as ledger, connect(settings.store_url) as redis:
            await catch_up(ledger, redis, settings.expected_ids)

    asyncio.run(prepare())
    return run


def test_service_that_is_well_is_said_to_be(on_engine: Command) -> None:
    result = on_engine("doctor")

    assert result.exit_code == 0, result.output
    assert {line.split()[0] for line in result.stdout.splitlines()} == {"ok"}
    assert "ledger" in result.stdout
    assert "buckets are packed" in result.stdout
    assert "power cut" in result.stdout


def test_catalog_that_is_behind_is_wrong_and_says_what_to_do(on_engine: Command) -> None:
    async def add_unpublished() -> None:
        from segments.ledger.revision import raise_revision

        async with open_ledger(Settings().ledger_dsn) as ledger, ledger.begin() as conn:
            await raise_revision(conn)

    asyncio.run(add_unpublished())

    result = on_engine("doctor")

    assert result.exit_code == 1
    assert "FAIL  catalog" in result.stdout
    assert "start the loader" in result.stdout


def test_store_that_does_not_run_is_wrong(run: Command) -> None:
    result = run("doctor")

    assert result.exit_code == 1
    assert "FAIL  store: does not answer" in result.stdout
    assert "rtb-segments up" in result.stdout
