"""A ledger's backup, taken while it is in use, and started beside the store that went on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.engine import open_ledger
from segments.settings import Settings
from tests.postgres import Postgres


class Backups:
    """Takes backups of one test's ledgers, on either database."""

    def __init__(self, folder: Path, postgres: Postgres | None) -> None:
        self._folder = folder
        self._postgres = postgres
        self._databases: list[str] = []

    async def take(self, ledger: AsyncEngine, settings: Settings) -> Settings:
        """Copy a ledger as it is now; return the settings under which the copy is started."""
        if ledger.dialect.name == "sqlite":
            data_dir = self._folder / f"backup-{len(list(self._folder.glob('backup-*')))}"
            data_dir.mkdir()
            async with ledger.connect() as conn:
                raw = await conn.get_raw_connection()
                file = str(data_dir / "ledger.db")
                await raw.driver_connection.execute("vacuum into ?", (file,))  # type: ignore[union-attr]
            return settings.model_copy(update={"data_dir": data_dir})
        assert self._postgres is not None
        async with ledger.connect() as conn:
            name = await conn.scalar(text("select current_database()"))
        await ledger.dispose()  # a template may have no sessions
        copy = self._postgres.new_database(f"template {name}")
        self._databases.append(copy)
        return settings.model_copy(update={"ledger_url": self._postgres.url(copy)})

    @asynccontextmanager
    async def restored(self, copy: Settings) -> AsyncIterator[AsyncEngine]:
        """Open a copy, for good: it is the ledger from now on."""
        async with open_ledger(copy.ledger_dsn) as ledger:
            yield ledger

    def drop(self) -> None:
        """Drop what was made of databases."""
        for name in self._databases:
            assert self._postgres is not None
            self._postgres.drop(name)
