"""A history whose ledger lies on either database, and what backs it up and puts it back."""

import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from segments.files.blobs import Blobs
from segments.ledger.database.copying import as_it_is
from segments.settings import Settings
from segments.store.servers.connection import connect
from segments.upkeep.backup.manifest import Manifest
from segments.upkeep.backup.restore import Target, restore
from segments.upkeep.backup.take import Source, Taken, take
from tests.engines import Engine
from tests.postgres import Postgres
from tests.segments.upkeep.histories import History, begun


class Vault:
    """A place of backups of one deployment."""

    def __init__(self, settings: Settings, place: Path, postgres: Postgres | None) -> None:
        self.settings = settings
        self.place = place
        self._postgres = postgres
        self._seconds = 0

    def now_s(self) -> float:
        """Return a time that no backup had before."""
        self._seconds += 1
        return time.time() + self._seconds

    async def take(self, blobs: Blobs | None = None, **how: Any) -> Taken:
        """Take a backup, as the command does."""
        async with as_it_is(self.settings.ledger_dsn) as ledger:
            source = Source(
                ledger,
                self.settings.ledger_dsn,
                blobs or Blobs.looked_at(self.settings.blobs_at),
                self.settings.data_dir / "sftp",
                self.settings.spool_dir,
                0,
            )
            place = Blobs.in_directory(self.place, 0)
            return await take(source, place, self.now_s, version="1", **how)

    async def restore(self, name: str | None = None, **how: Any) -> Manifest:
        """Put a backup back, as the command does."""
        target = Target(
            self.settings.ledger_dsn,
            Blobs.open(self.settings.blobs_at, 0),
            self.settings.data_dir / "sftp",
            self.settings.spool_dir,
            0,
        )
        _, manifest = await restore(Blobs.looked_at(self.place), name, target, **how)
        return manifest

    def destroy(self) -> None:
        """Lose everything but the backups and the store."""
        shutil.rmtree(self.settings.data_dir)
        if self._postgres is not None:
            database = (self.settings.ledger_url or "").partition("?")[0].rpartition("/")[2]
            self._postgres.drop(database)
            self._postgres.execute("postgres", f"create database {database}")


@pytest.fixture
def vault(ledger_settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> Vault:
    is_sqlite = ledger_settings.ledger_url is None
    postgres = None if is_sqlite else request.getfixturevalue("postgres")
    return Vault(ledger_settings, tmp_path / "backups", postgres)


@pytest.fixture
async def redis(valkey: Engine) -> AsyncIterator[Redis]:
    async with connect(valkey.url) as client:
        yield client


@pytest.fixture
async def history(vault: Vault, redis: Redis) -> AsyncIterator[History]:
    """A history on the ledger that is backed up."""
    async with begun(vault.settings, redis, seed=5) as history:
        yield history
