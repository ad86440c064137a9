"""Commands that were started where another ledger lies, or none; and what brings it right."""

import asyncio
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import segments
from segments.ledger.database.engine import open_ledger
from segments.model.identity import id_of_email_hash
from segments.model.record import EVERYONE, OptOut, OptOutAction
from segments.projection.catalog import catch_up
from segments.settings import Settings
from segments.store.reader import read_meta, read_records, read_whose
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.segments.cli.conftest import Command

SOURCE = Path(segments.__file__).parent

ADA = hashlib.sha256(b"ada@example.com").hexdigest()

ACME = ("--kind", "advertiser", "--id", "acme", "--name", "A")
AGENCY = ("--kind", "agency", "--id", "b", "--name", "B")

WITHOUT_A_LEDGER = [
    pytest.param(("account", "add", *ACME), id="a change that is published"),
    pytest.param(("token", "create", "--note", "x"), id="a change that is not"),
    pytest.param(("status",), id="a look"),
    pytest.param(("restrict", ADA), id="an opt-out"),
    pytest.param(("load", "file", "--metadata", "file"), id="a file"),
    pytest.param(("audit", "export"), id="the trail"),
    pytest.param(("rebuild", "--yes"), id="upkeep"),
    pytest.param(("reconcile",), id="reconcile"),
]
"""One of each way in which a command opens the ledger; each waits for five seconds."""


@pytest.fixture
def on_store(run: Command, valkey: Engine, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command on a store that others reach, too, and that has its ledger."""
    monkeypatch.setenv("SEGMENTS_REDIS_URL", valkey.url)
    assert run("account", "add", *ACME).exit_code == 0
    asyncio.run(do_what_a_loader_does())
    return run


async def do_what_a_loader_does() -> None:
    settings = Settings()
    async with open_ledger(settings.ledger_dsn) as ledger, connect(settings.store_url) as redis:
        await catch_up(ledger, redis, settings.expected_ids)


def held_by(url: str) -> str:
    async def ask() -> str:
        async with connect(url) as redis:
            return (await read_whose(redis)).ledger_id

    return asyncio.run(ask())


def opt_outs_of_ada(url: str) -> tuple[OptOut, ...]:
    async def ask() -> tuple[OptOut, ...]:
        async with connect(url) as redis:
            [record] = await read_records(redis, await read_meta(redis), [id_of_email_hash(ADA)])
            return record.opt_outs

    return asyncio.run(ask())


def go_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Type the next commands where nobody was before."""
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("SEGMENTS_DATA_DIR", str(elsewhere))
    return elsewhere


@pytest.mark.parametrize("arguments", WITHOUT_A_LEDGER)
def test_command_makes_no_ledger_and_says_that_there_is_none(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """
    An opt-out in a ledger of its own would be gone with the next rebuild, and said to be done.
    """
    (tmp_path / "file").write_text("x")
    elsewhere = go_elsewhere(tmp_path, monkeypatch)

    result = run(*arguments)

    # `restrict` says first that other users of the machine can see arguments.
    last = result.stderr.splitlines()[-1]
    assert (result.exit_code, last) == (2, f"Error: no ledger in {elsewhere}")
    assert not (elsewhere / "ledger.db").exists()


def test_only_the_ways_that_may_make_a_ledger_open_it_without_asking() -> None:
    """What makes one must ask the store first; a new command is easily written otherwise."""
    makers = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if re.search(r"\bopen_ledger\(", path.read_text())
    }

    assert makers == {
        "ledger/database/engine.py",
        "processes/up.py",
        "processes/rest_api.py",
        "processes/console.py",
        "cli/ingest.py",  # the loader
        "cli/sftp.py",
        "cli/reconcile.py",  # adopt-store, which names the ledger that it replaces
    }


def test_command_waits_for_a_ledger_that_is_being_made(
    run: Command, tmp_path: Path, migrated_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = go_elsewhere(tmp_path, monkeypatch)
    elsewhere.mkdir()
    make = f"import time, shutil; time.sleep(1); shutil.copy2({str(migrated_file)!r}, 'ledger.db')"
    making = subprocess.Popen([sys.executable, "-c", make], cwd=elsewhere)

    result = run("account", "list")

    assert (result.exit_code, result.output) == (0, "")
    assert making.wait() == 0


def test_restrict_beside_the_store_of_another_ledger_is_refused(
    on_store: Command, valkey: Engine, tmp_path: Path, migrated_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Case operations-1, where the other data directory has a ledger, too."""
    theirs = held_by(valkey.url)
    elsewhere = go_elsewhere(tmp_path, monkeypatch)
    elsewhere.mkdir()
    asyncio.run(make_ledger(elsewhere))

    for command in (["restrict", ADA], ["account", "add", *AGENCY]):
        result = on_store(*command)
        assert result.exit_code == 1
        assert f"the store belongs to ledger {theirs}, and this is ledger" in result.stderr

    assert opt_outs_of_ada(valkey.url) == ()
    doctor = on_store("doctor")
    assert doctor.exit_code == 1
    assert f"FAIL  store: the store belongs to ledger {theirs}" in doctor.stdout


async def make_ledger(data_dir: Path) -> None:
    async with open_ledger(Settings(data_dir=data_dir).ledger_dsn):
        pass


@pytest.mark.parametrize("command", ["up", "loader", "api", "sftp", "console"])
def test_process_makes_no_ledger_beside_a_store_that_has_one(
    on_store: Command, valkey: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    theirs = held_by(valkey.url)
    go_elsewhere(tmp_path, monkeypatch)

    result = on_store(command)

    assert result.exit_code == 1
    assert "no ledger is made beside a store that has one" in result.stderr
    assert theirs in result.stderr
    assert on_store("account", "list").exit_code == 2


def test_restored_ledger_works_again_once_it_is_reconciled(
    on_store: Command, valkey: Engine, tmp_path: Path
) -> None:
    asyncio.run(back_up(tmp_path / "backup.db"))
    assert on_store("restrict", ADA).exit_code == 0
    for left in (tmp_path / "data").glob("ledger.db*"):
        left.unlink()
    shutil.copy2(tmp_path / "backup.db", tmp_path / "data" / "ledger.db")

    refused = on_store("account", "add", *AGENCY)
    doctor = on_store("doctor")
    reconciled = on_store("reconcile", "--rebuild")

    assert refused.exit_code == doctor.exit_code == 1
    for said in (refused.stderr, doctor.stdout):
        assert "its last opt-out is 0, the store was told of 1" in said
        assert "`rtb-segments reconcile`" in said
    assert reconciled.exit_code == 0, reconciled.output
    assert "opt-outs that only the store knew, now in the ledger: 1" in reconciled.stdout
    assert opt_outs_of_ada(valkey.url) == (OptOut(EVERYONE, OptOutAction.RESTRICT),)
    assert on_store("doctor").exit_code == 0
    assert "nothing to reconcile" in on_store("reconcile").stdout


async def back_up(file: Path) -> None:
    async with open_ledger(Settings().ledger_dsn) as ledger, ledger.connect() as conn:
        raw = await conn.get_raw_connection()
        await raw.driver_connection.execute("vacuum into ?", (str(file),))  # type: ignore[union-attr]


def test_store_of_a_lost_ledger_is_adopted_by_name(
    on_store: Command, valkey: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert on_store("restrict", ADA).exit_code == 0
    theirs = held_by(valkey.url)
    go_elsewhere(tmp_path, monkeypatch)

    wrong = on_store("adopt-store", "--from", "0" * 32, "--yes")
    right = on_store("adopt-store", "--from", theirs, "--yes")

    assert (wrong.exit_code, theirs in wrong.stderr) == (1, True)
    assert right.exit_code == 0, right.output
    assert held_by(valkey.url) not in ("", theirs)
    assert opt_outs_of_ada(valkey.url) == (OptOut(EVERYONE, OptOutAction.RESTRICT),)
    assert on_store("doctor").exit_code == 0
