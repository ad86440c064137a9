import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateIndex, CreateTable

from segments.ledger.database.engine import LedgerUnusable, open_ledger, reading
from segments.ledger.database.errors import LedgerAway
from segments.ledger.database.sqlite import make_engine
from segments.ledger.migrations import HEAD
from segments.ledger.revision import raise_revision, revision
from segments.ledger.tables import metadata
from segments.settings import Settings

_OPEN = """
import asyncio, sys
from segments.ledger.revision import raise_revision
from segments.ledger.database.engine import open_ledger
from segments.settings import Settings

async def main():
    async with open_ledger(Settings(ledger_url=sys.argv[1]).ledger_dsn) as ledger:
        async with ledger.begin() as conn:
            await raise_revision(conn)

asyncio.run(main())
"""


@pytest.fixture
async def sqlite_ledger(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """A fresh ledger in a file, for what only SQLite has; see `test_postgres.py`."""
    async with open_ledger(settings.ledger_dsn) as opened:
        yield opened


def statements_of_migrations(conn: Connection) -> set[str]:
    rows = conn.execute(
        text(
            "select sql from sqlite_master where sql is not null"
            " and type <> 'trigger'"  # of which definitions know nothing; see test_audit.py
            " and name not in ('alembic_version', 'sqlite_sequence')"
        )
    )
    return {" ".join(row.sql.split()) for row in rows}


def statements_of_tables(conn: Connection) -> set[str]:
    statements = [CreateTable(table) for table in metadata.sorted_tables] + [
        CreateIndex(index) for table in metadata.sorted_tables for index in table.indexes
    ]
    return {" ".join(str(s.compile(conn)).split()) for s in statements}


async def test_migrations_lead_to_the_tables(ledger: AsyncEngine) -> None:
    def differences(conn: Connection) -> object:
        return compare_metadata(MigrationContext.configure(conn), metadata)

    async with reading(ledger) as conn:
        assert await conn.run_sync(differences) == []


async def test_migrations_lead_to_every_constraint_of_the_tables(
    sqlite_ledger: AsyncEngine,
) -> None:
    """
    Alembic compares neither checks nor partial indexes nor AUTOINCREMENT; their text says all.
    """

    def parts(statements: set[str]) -> set[frozenset[str]]:
        # Constraints may stand in another order within their table.
        return {
            frozenset(part.rstrip(" )").replace("( ", "(") for part in statement.split(", "))
            for statement in statements
        }

    async with reading(sqlite_ledger) as conn:
        migrated = await conn.run_sync(statements_of_migrations)
        defined = await conn.run_sync(statements_of_tables)

    assert parts(migrated) == parts(defined)


def test_head_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", "segments.ledger:migrations")
    config.set_main_option("path_separator", "os")

    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_processes_that_open_a_fresh_ledger_at_once_all_do(ledger_settings: Settings) -> None:
    argv = [sys.executable, "-c", _OPEN, ledger_settings.ledger_dsn]
    openers = [subprocess.Popen(argv, stderr=subprocess.PIPE) for _ in range(3)]

    errors = [opener.communicate()[1] for opener in openers]

    assert errors == [b""] * 3


async def test_fresh_ledger_begins_at_a_revision_of_its_own(ledger_settings: Settings) -> None:
    """
    A store that another ledger has filled must not look up to date to this one.
    """
    async with open_ledger(ledger_settings.ledger_dsn) as ledger, reading(ledger) as conn:
        assert abs(await revision(conn) - time.time()) < 60


@pytest.mark.parametrize("ledger_settings", ["sqlite"], indirect=True)
async def test_new_ledger_costs_the_log_one_line_and_another_start_none(
    ledger_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "segments")
    for _ in range(2):
        async with open_ledger(ledger_settings.ledger_dsn):
            pass

    ours = [record for record in caplog.records if record.name.startswith("segments")]
    assert [record.getMessage() for record in ours] == [
        f"a new ledger, with tables of revision {HEAD}"
    ]


async def test_file_survives_power_cuts(sqlite_ledger: AsyncEngine) -> None:
    full = 2

    async with reading(sqlite_ledger) as conn:
        assert await conn.scalar(text("pragma journal_mode")) == "wal"
        assert await conn.scalar(text("pragma synchronous")) == full


async def test_reference_to_nothing_is_refused(ledger: AsyncEngine) -> None:
    with pytest.raises(IntegrityError):
        async with ledger.begin() as conn:
            await conn.execute(text("insert into recipient_grants values (1, 1)"))


async def test_writers_take_turns_and_none_is_refused(ledger: AsyncEngine) -> None:
    async def read_then_write() -> None:
        async with ledger.begin() as conn:
            await revision(conn)
            await asyncio.sleep(0)
            await raise_revision(conn)

    async with reading(ledger) as conn:
        before = await revision(conn)
    await asyncio.gather(*(read_then_write() for _ in range(5)))

    async with reading(ledger) as conn:
        assert await revision(conn) == before + 5


async def test_reader_sees_one_state_while_another_writes(ledger: AsyncEngine) -> None:
    async with reading(ledger) as conn:
        before = await revision(conn)
        async with ledger.begin() as other:
            await raise_revision(other)

        assert await revision(conn) == before


async def test_transaction_that_fails_changes_nothing(ledger: AsyncEngine) -> None:
    async with reading(ledger) as conn:
        before = await revision(conn)

    async def change_then_fail() -> None:
        async with ledger.begin() as conn:
            await raise_revision(conn)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await change_then_fail()

    async with reading(ledger) as conn:
        assert await revision(conn) == before


async def test_nobody_else_may_read_the_file(
    sqlite_ledger: AsyncEngine, settings: Settings
) -> None:
    async with sqlite_ledger.begin() as conn:
        await raise_revision(conn)

        for path in settings.data_dir.glob("ledger.db*"):
            assert path.stat().st_mode & 0o077 == 0, path.name


async def opening_fails(settings: Settings) -> str:
    with pytest.raises(LedgerUnusable) as caught:
        async with open_ledger(settings.ledger_dsn):
            raise AssertionError("opened")
    message = str(caught.value)
    assert "\n" not in message
    return message


async def test_ledger_of_a_later_version_is_left_alone(ledger_settings: Settings) -> None:
    async with open_ledger(ledger_settings.ledger_dsn) as ledger, ledger.begin() as conn:
        await conn.execute(text("update alembic_version set version_num = '9999'"))

    assert "later version" in await opening_fails(ledger_settings)


async def test_file_that_is_no_ledger_is_named(settings: Settings) -> None:
    settings.data_dir.mkdir()
    (settings.data_dir / "ledger.db").write_text("a shopping list, not a database at all" * 20)

    assert "ledger.db is no database" in await opening_fails(settings)


async def test_directory_that_is_a_file_is_named(settings: Settings) -> None:
    settings.data_dir.write_text("")

    assert "ledger.db: its directory is a file" in await opening_fails(settings)


async def test_migration_that_fails_leaves_no_half_of_itself(
    settings: Settings, tmp_path: Path
) -> None:
    """
    A table is in the way, so the first migration fails in its middle; with it
    gone, the next opening succeeds.
    """
    settings.data_dir.mkdir()
    path = settings.data_dir / "ledger.db"
    raw = create_async_engine(f"sqlite+aiosqlite:///{path}")
    async with raw.begin() as conn:
        await conn.execute(text("create table jobs (x)"))
    await raw.dispose()

    assert "jobs" in await opening_fails(settings)
    async with raw.begin() as conn:
        names = set(await conn.scalars(text("select name from sqlite_master")))
        await conn.execute(text("drop table jobs"))
    await raw.dispose()

    assert names == {"jobs"}
    async with open_ledger(settings.ledger_dsn) as ledger, reading(ledger) as conn:
        assert await revision(conn) > 0


async def test_reading_connection_does_not_wait_for_a_writer(ledger: AsyncEngine) -> None:
    async with ledger.begin() as writer:
        await raise_revision(writer)

        async with asyncio.timeout(5), reading(ledger) as conn:
            assert await revision(conn) > 0


def locks_of_this_process(path: Path) -> list[str]:
    """Return the ranges of a file that this process has locked, by the kernel's own list."""
    inode = path.stat().st_ino
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return sorted(
        f"{fields[3]} {fields[6]}-{fields[7]}"
        for fields in lines
        if fields[4] == str(os.getpid()) and fields[5].endswith(f":{inode}")
    )


async def test_looking_at_a_file_that_fails_drops_none_of_its_locks(
    sqlite_ledger: AsyncEngine, settings: Settings
) -> None:
    """
    POSIX drops all of a process when it closes any descriptor of the file: without them another
    process takes the log away under us.
    """
    path = settings.data_dir / "ledger.db"
    async with reading(sqlite_ledger) as conn, sqlite_ledger.connect() as refused:
        await revision(conn)
        before = locks_of_this_process(path)
        driver = (await refused.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.execute("PRAGMA query_only=ON")
        with pytest.raises(LedgerAway, match=r"ledger .* can only be read"):
            await refused.execute(text("create table t (a)"))
        await driver.execute("PRAGMA query_only=OFF")

        assert locks_of_this_process(path) == before != []


async def test_ledger_that_is_opened_twice_by_one_process_keeps_its_locks(
    sqlite_ledger: AsyncEngine, settings: Settings
) -> None:
    path = settings.data_dir / "ledger.db"
    async with reading(sqlite_ledger) as conn:
        await revision(conn)
        before = locks_of_this_process(path)
        make_engine(settings.ledger_dsn)

        assert locks_of_this_process(path) == before != []
