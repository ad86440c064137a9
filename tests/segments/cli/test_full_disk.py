"""A command that finds no room says so in a line, with what to do, and no traceback."""

import sqlite3
from pathlib import Path

import pytest

from tests.segments.cli.conftest import Command
from tests.segments.cli.test_accounts import add_partner
from tests.segments.ingest.deliveries import as_json, email_hashes, metadata_of, text_of


def test_load_on_a_disk_without_room_is_refused_in_a_line_and_makes_no_job(
    ok: Command, run: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add_partner(ok)
    content = text_of(email_hashes(5))
    (tmp_path / "file").write_bytes(content)
    metadata = metadata_of(content, records=5, partner_id="shop")
    (tmp_path / "file.json").write_bytes(as_json(metadata))
    monkeypatch.setenv("SEGMENTS_RESERVE_BYTES", str(1 << 60))

    refused = run("load", "file", "--metadata", "file.json")

    with sqlite3.connect(tmp_path / "data" / "ledger.db") as ledger:
        jobs = ledger.execute("select count(*) from jobs").fetchone()
    ledger.close()
    assert refused.exit_code == 1
    assert "has no room but what is kept for ledger and store" in refused.output
    assert "SEGMENTS_RESERVE_BYTES; then run this again" in refused.output
    assert "Traceback" not in refused.output
    assert jobs == (0,)


def test_command_that_finds_the_ledger_locked_is_refused_in_a_line(
    ok: Command, run: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("segments.ledger.database.sqlite._BUSY_TIMEOUT_MS", 200)
    add_partner(ok)
    other = sqlite3.connect(tmp_path / "data" / "ledger.db", isolation_level=None)
    other.execute("begin immediate")

    refused = run("account", "deactivate", "shop")
    other.close()

    assert refused.exit_code == 1
    assert "is locked by another process; end what holds it" in refused.output
    assert "Traceback" not in refused.output
    ok("account", "quota", "shop")
