"""The drill: back up under load, lose everything, restore, rebuild."""

import asyncio
import hashlib
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from segments.files.blobs import Blobs
from segments.ledger import job_leases
from segments.ledger.database.copying import CannotCopy
from segments.ledger.database.engine import open_ledger, reading
from segments.ledger.privacy import opt_outs
from segments.settings import Settings
from segments.store.reader import read_catalog, read_meta
from segments.upkeep.backup.manifest import NoBackup
from segments.upkeep.backup.restore import CannotRestore
from segments.upkeep.rebuild import rebuild
from tests.kept_files import kept_files
from tests.segments.upkeep.backup.conftest import Vault
from tests.segments.upkeep.histories import History, begun

Dump = dict[bytes, dict[bytes, bytes]]


async def restored_dump(vault: Vault, redis: Redis, name: str | None = None) -> tuple[Dump, int]:
    """Lose everything, restore, rebuild; return the records, and the last opt-out in force."""
    vault.destroy()
    await redis.flushall()
    await vault.restore(name)
    async with open_ledger(vault.settings.ledger_dsn) as ledger:
        blobs = Blobs.in_directory(vault.settings.data_dir / "blobs")
        async with reading(ledger) as conn:
            assert (
                await job_leases.running(conn, time.time()) == []
            )  # for a rebuild waits for those
        history = History(vault.settings, ledger, redis, blobs, 0)
        await rebuild(history.tools, vault.settings.expected_ids, settle_s=0)
        return await history.dump(), (await read_meta(redis)).opt_outs


async def test_restored_and_rebuilt_store_is_the_lost_one_byte_for_byte(
    vault: Vault, history: History, redis: Redis
) -> None:
    await history.happen_all(files=1)
    await vault.take()
    await history.happen_all(files=1)
    lost, lost_catalog = await history.dump(), await read_catalog(redis)
    await vault.take()
    await history.ledger.dispose()

    found, _ = await restored_dump(vault, redis)

    assert found == lost
    assert await read_catalog(redis) == lost_catalog


async def test_backup_under_load_has_every_opt_out_that_was_acknowledged_before_it(
    vault: Vault, history: History, redis: Redis
) -> None:
    """Jobs end meanwhile, and their files are replaced; a rebuild misses none of them."""
    await history.happen_all(files=1)
    loading = asyncio.create_task(history.happen_all(files=2))
    await vault.take()
    async with reading(history.ledger) as conn:
        acknowledged = await opt_outs.last_seq(conn)
    assert not loading.done()
    last = await vault.take()
    await loading
    await history.ledger.dispose()

    _, in_force = await restored_dump(vault, redis, last.name)

    assert in_force >= acknowledged > 0


class _Replacing(Blobs):
    """Blobs of which one is replaced as soon as the backup begins to read it, as by a scrub."""

    settings: Settings
    replaced: str | None = None

    def get(self, name: str) -> Any:
        if self.replaced is None:
            self.replaced = name
            replace_blob(self.settings, name)
        return super().get(name)


def replace_blob(settings: Settings, name: str) -> None:
    """Replace a job's file, as a scrub does."""
    file = settings.data_dir / "blobs" / name
    successor = f"{name}-successor"
    file.rename(settings.data_dir / "blobs" / successor)
    with closing(sqlite3.connect(settings.data_dir / "ledger.db")) as ledger, ledger:
        ledger.execute("update jobs set blob = ? where blob = ?", (successor, name))


@pytest.mark.parametrize("ledger_settings", ["sqlite"], indirect=True)
async def test_file_that_is_replaced_while_it_is_copied_comes_as_its_successor(
    vault: Vault, history: History, redis: Redis
) -> None:
    await history.happen_all(files=2)
    blobs = _Replacing.in_directory(vault.settings.data_dir / "blobs")
    blobs.settings = vault.settings

    taken = await vault.take(blobs)

    assert blobs.replaced not in taken.manifest.blobs
    assert any(name.endswith("-successor") for name in taken.manifest.blobs)


@pytest.mark.parametrize("ledger_settings", ["sqlite"], indirect=True)
async def test_second_backup_copies_only_what_is_new(vault: Vault, history: History) -> None:
    await history.happen_all(files=3)
    first = await vault.take()
    second = await vault.take()

    assert first.copied == len(first.manifest.blobs) + 1  # and the ledger
    assert second.copied == 1
    assert second.manifest.blobs == first.manifest.blobs


@pytest.mark.parametrize("ledger_settings", ["sqlite"], indirect=True)
async def test_backups_beyond_the_number_to_keep_are_deleted_with_their_files(
    vault: Vault, history: History
) -> None:
    await history.happen_all(files=1)
    names = []
    for _ in range(3):
        last = await vault.take(keep=2)
        names.append(last.name)
        replace_blob(vault.settings, next(iter(last.manifest.blobs)))
    await history.ledger.dispose()

    assert last.deleted == 1
    assert {path.stem for path in kept_files(vault.place / "backups")} == set(names[1:])
    assert {path.name for path in kept_files(vault.place / "backup-ledgers")} == set(names[1:])
    for name in names[1:]:
        await vault.restore(name, replaces=True)


@pytest.mark.parametrize("ledger_settings", ["sqlite"], indirect=True)
async def test_backup_is_readable_by_its_owner_alone_and_holds_the_host_keys(
    vault: Vault, history: History
) -> None:
    key = vault.settings.data_dir / "sftp" / "host_key"
    key.parent.mkdir(mode=0o700)
    key.write_bytes(b"secret")
    await vault.take()
    await history.ledger.dispose()
    vault.destroy()

    await vault.restore()

    assert vault.place.stat().st_mode & 0o777 == 0o700
    assert key.read_bytes() == b"secret"
    assert key.stat().st_mode & 0o777 == 0o600
    assert (vault.settings.data_dir / "ledger.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("which", ["backup-ledgers", "backup-blobs"])
@pytest.mark.parametrize("ledger_settings", ["sqlite"], indirect=True)
async def test_damaged_backup_is_refused_before_anything_is_changed(
    vault: Vault, history: History, which: str
) -> None:
    await history.happen_all(files=1)
    await vault.take()
    await history.say_no()
    async with reading(history.ledger) as conn:
        until = await opt_outs.last_seq(conn)
    damaged = kept_files(vault.place / which)[0]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    await history.ledger.dispose()
    before = _contents(vault.settings.data_dir / "blobs")

    with pytest.raises(CannotRestore, match="missing or damaged"):
        await vault.restore(replaces=True)

    assert _contents(vault.settings.data_dir / "blobs") == before
    async with open_ledger(vault.settings.ledger_dsn) as ledger, reading(ledger) as conn:
        assert await opt_outs.last_seq(conn) == until


def _contents(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept_files(folder)}


async def test_ledger_that_is_there_is_replaced_only_where_it_is_said_and_nobody_uses_it(
    vault: Vault, redis: Redis
) -> None:
    async with begun(vault.settings, redis, seed=5) as history:
        await history.happen_all(files=1)
        await vault.take()
        with pytest.raises(CannotCopy, match="there is a ledger already"):
            await vault.restore()
        async with reading(history.ledger) as conn:
            await opt_outs.last_seq(conn)
            with pytest.raises(CannotCopy, match="stop all processes first"):
                await vault.restore(replaces=True)
        await history.say_no()
        async with reading(history.ledger) as conn:
            later = await opt_outs.last_seq(conn)

    await vault.restore(replaces=True)

    async with open_ledger(vault.settings.ledger_dsn) as ledger, reading(ledger) as conn:
        assert await opt_outs.last_seq(conn) < later


@pytest.mark.parametrize("ledger_settings", ["sqlite"], indirect=True)
async def test_referenced_file_that_is_gone_is_named_before_anything_is_changed(
    vault: Vault, history: History, tmp_path: Path
) -> None:
    await history.happen_all(files=2)
    taken = await vault.take(references=True)
    await history.ledger.dispose()
    (vault.settings.data_dir / "ledger.db").rename(tmp_path / "lost.db")
    gone = kept_files(vault.settings.data_dir / "blobs")[0]
    gone.unlink()

    with pytest.raises(CannotRestore, match="1 delivered files that the backup references"):
        await vault.restore()

    assert not (vault.place / "backup-blobs").exists()
    assert taken.copied == 1
    assert not (vault.settings.data_dir / "ledger.db").exists()
    await vault.restore(skips_missing=True)
    assert (vault.settings.data_dir / "ledger.db").exists()


async def test_place_without_a_whole_backup_has_nothing_to_restore(
    settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(NoBackup, match="no whole backup"):
        await Vault(settings, tmp_path, None).restore()
