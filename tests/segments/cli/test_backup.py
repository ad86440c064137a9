"""`backup` and `restore` as an operator runs them: their words, a full disk, a kill."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.kept_files import kept_files
from tests.segments.cli.conftest import Command
from tests.segments.cli.test_accounts import add_partner
from tests.segments.ingest.deliveries import as_json, email_hashes, metadata_of, text_of
from tests.small_disk import MIB, mounted


def deliver(ok: Command, folder: Path, *, rows: int = 50_000) -> Path:
    """Put a file into the ledger and the blobs, and return the blob."""
    content = text_of(email_hashes(rows))
    (folder / "file").write_bytes(content)
    (folder / "file.json").write_bytes(
        as_json(metadata_of(content, records=rows, partner_id="shop"))
    )
    ok("load", "file", "--metadata", "file.json")
    (blob,) = kept_files(folder / "data" / "blobs")
    return blob


def test_restored_deployment_has_its_accounts_and_the_command_says_what_is_next(
    ok: Command, run: Command, tmp_path: Path
) -> None:
    add_partner(ok)
    ok("backup", "elsewhere")
    (tmp_path / "data" / "ledger.db").unlink()

    restored = ok("restore", "elsewhere")

    assert "rtb-segments rebuild" in restored.output
    assert "rtb-segments reconcile" in restored.output
    assert "shop" in ok("account", "list").output
    again = run("restore", "elsewhere")
    assert again.exit_code == 1
    assert "there is a ledger already" in again.output


def test_backup_onto_the_disk_of_the_data_is_refused(run: Command) -> None:
    refused = run("backup", "data/backups")

    assert refused.exit_code == 1
    assert "would be lost with it" in refused.output


def test_backup_of_nothing_and_restore_from_nothing_are_refused_in_a_line(
    run: Command, tmp_path: Path
) -> None:
    nothing = run("restore", "nowhere")
    (tmp_path / "data" / "ledger.db").unlink()
    no_ledger = run("backup", "elsewhere")

    assert (nothing.exit_code, no_ledger.exit_code) == (1, 2)
    assert "there is no directory nowhere" in nothing.output
    assert "no ledger in" in no_ledger.output


def test_backup_that_finds_its_disk_full_leaves_the_one_before_whole(
    ok: Command, run: Command, store: object, tmp_path: Path
) -> None:
    del store
    add_partner(ok)
    with mounted(tmp_path / "small", size_bytes=8 * MIB) as disk:
        ok("backup", "small/backups")
        deliver(ok, tmp_path)
        disk.fill(but_bytes=64 << 10)

        full = run("backup", "small/backups")

        disk.make_room()
        manifests = kept_files(tmp_path / "small" / "backups" / "backups")
        assert full.exit_code == 1
        assert "no room" in full.output or "full" in full.output
        assert len(manifests) == 1
        (tmp_path / "data" / "ledger.db").unlink()
        ok("restore", "small/backups", "--replace")


_KILLED_BEFORE_ITS_MANIFEST = """
import os, signal
from segments.upkeep.backup import manifest
async def die(*_): os.kill(os.getpid(), signal.SIGKILL)
manifest.write = die
from segments.cli import main
main(["backup", "elsewhere"])
"""


def test_backup_that_is_killed_is_not_taken_for_whole(ok: Command, tmp_path: Path) -> None:
    add_partner(ok)
    ok("backup", "elsewhere")
    before = kept_files(tmp_path / "elsewhere" / "backups")
    add_partner(ok, "other")

    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_BEFORE_ITS_MANIFEST], env=os.environ, check=False
    )

    assert killed.returncode == -signal.SIGKILL
    assert len(kept_files(tmp_path / "elsewhere" / "backup-ledgers")) == 2
    assert kept_files(tmp_path / "elsewhere" / "backups") == before
    ok("restore", "elsewhere", "--replace")
    assert "other" not in ok("account", "list").output
    ok("backup", "elsewhere")
    assert len(kept_files(tmp_path / "elsewhere" / "backup-ledgers")) == 2
