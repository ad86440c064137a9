import os
import re
import sqlite3
import time
from pathlib import Path

import pytest

from segments.files.blobs import DELIVERIES
from segments.upkeep.sweep import ORPHANED_AFTER_S
from tests.kept_files import kept_files
from tests.segments.cli.conftest import Command
from tests.segments.ingest.deliveries import (
    PARTNER_ID,
    as_json,
    email_hashes,
    ids_of,
    metadata_of,
    text_of,
)

HASHES = email_hashes(50)

NOT_IN_FORCE_YET = 3
"""The exit status of what is in the ledger alone: between two commands no store runs here."""


@pytest.fixture
def partner(ok: Command) -> None:
    ok("account", "add", "--kind", "advertiser", "--id", PARTNER_ID, "--name", "Partner")


def delivered(folder: Path, count: int, action: str) -> tuple[str, ...]:
    """Write the two files of a delivery; return the arguments that load them."""
    content = text_of(HASHES[:count])
    metadata = metadata_of(content, records=count, segments=[("1", action)])
    (folder / "file").write_bytes(content)
    (folder / "file.json").write_bytes(as_json(metadata))
    return ("load", "file", "--metadata", "file.json")


@pytest.mark.usefixtures("partner")
def test_held_job_says_why_and_goes_on_when_it_is_released(
    run: Command, ok: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMENTS_REMOVE_BRAKE_SHARE", "0.5")
    ok(*delivered(tmp_path, 50, "add"))

    held = run(*delivered(tmp_path, 30, "remove"))
    assert held.exit_code == 1
    assert "held: it would remove 60% of audience 1's members (30 of 50 looked at)" in held.output
    assert "it would remove" in ok("status").output

    assert ok("release", "2").output == "job 2 goes on with the loader\n"
    assert "30 removed" in ok(*delivered(tmp_path, 30, "remove")).output


@pytest.mark.usefixtures("partner")
def test_load_behind_a_held_job_does_not_wait_for_ever(
    run: Command, ok: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMENTS_REMOVE_BRAKE_SHARE", "0.5")
    ok(*delivered(tmp_path, 50, "add"))
    run(*delivered(tmp_path, 40, "remove"))

    behind = run(*delivered(tmp_path, 10, "add"))
    assert behind.exit_code == 1
    assert "job 3: queued" in behind.output

    refused = ok("release", "2", "--refuse").output
    assert refused == "job 2 is over, and has removed no member\n"
    assert "error 0: Internal error (not_released: it would" in ok("status", "2").output


@pytest.mark.usefixtures("partner")
def test_job_that_is_not_held_is_not_released(run: Command, ok: Command, tmp_path: Path) -> None:
    ok(*delivered(tmp_path, 1, "add"))

    assert run("release", "1").output == "Error: job 1 is done, not held\n"
    assert run("release", "9").output == "Error: there is no job 9\n"


@pytest.mark.usefixtures("partner")
def test_rebuild_asks_first_and_says_what_it_did(run: Command, ok: Command, tmp_path: Path) -> None:
    ok(*delivered(tmp_path, 50, "add"))

    assert run("rebuild", stdin=b"n\n").exit_code == 1
    rebuilt = ok("rebuild", "--yes").output

    assert "rebuilt: 50 rows of 1 jobs" in rebuilt
    assert "50 unchanged" in ok(*delivered(tmp_path, 50, "add")).output


@pytest.mark.usefixtures("partner")
def test_sweep_says_what_it_took_away(run: Command, ok: Command, tmp_path: Path) -> None:
    ok(*delivered(tmp_path, 50, "add"))
    deleted = run("audience", "delete", "1", "--partner", PARTNER_ID, "--yes")
    assert deleted.exit_code == NOT_IN_FORCE_YET
    orphan = tmp_path / "data" / "blobs" / DELIVERIES / "1" / "orphan"
    orphan.write_bytes(b"x")
    long_ago_s = time.time() - ORPHANED_AFTER_S - 1
    os.utime(orphan, (long_ago_s, long_ago_s))

    swept = ok("sweep").output

    assert re.search(r"\d+ buckets: 50 memberships dropped, 1 orphaned files deleted", swept)
    with sqlite3.connect(tmp_path / "data" / "ledger.db") as ledger:
        [(blob,)] = ledger.execute("select blob from jobs").fetchall()
    assert (tmp_path / "data" / "blobs" / blob).exists()
    assert not orphan.exists()


@pytest.mark.usefixtures("partner")
def test_scrub_makes_ids_of_files_that_an_older_version_has_kept(
    ok: Command, tmp_path: Path
) -> None:
    ok(*delivered(tmp_path, 50, "add"))
    [kept] = kept_files(tmp_path / "data" / "blobs")
    kept.write_bytes(b"leaver@acme.example\n" + text_of(HASHES))
    with sqlite3.connect(tmp_path / "data" / "ledger.db") as ledger:
        ledger.execute("update jobs set report = json_remove(report, '$.is_ids')")

    first, again = ok("scrub").output, ok("scrub").output

    [now] = kept_files(tmp_path / "data" / "blobs")
    assert "1 delivered files became ids, 0 were deleted\n" in first
    assert "became ids" not in again
    assert len(now.read_bytes()) == 50 * 16


@pytest.mark.usefixtures("partner")
def test_scrub_takes_the_erased_out_of_the_files_at_once(
    run: Command, ok: Command, tmp_path: Path
) -> None:
    ok(*delivered(tmp_path, 50, "add"))
    erased = run("erase", "-", stdin="\n".join(HASHES[:3]).encode())
    assert erased.exit_code == NOT_IN_FORCE_YET

    scrubbed = ok("scrub").output

    assert scrubbed == ("scrubbed: 3 lines taken out of 1 files, 0 files deleted, 1 looked at\n")
    [kept] = kept_files(tmp_path / "data" / "blobs")
    ids = kept.read_bytes()
    assert {ids[at : at + 16] for at in range(0, len(ids), 16)} == set(ids_of(HASHES[3:]))
