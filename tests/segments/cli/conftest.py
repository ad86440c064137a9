"""The command line as people use it: environment variables, arguments, what it prints."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from segments.cli import main
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from tests.engines import Engine

Command = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, migrated_file: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `rtb-segments ARGUMENTS` on a data directory of this test's own, with an empty ledger."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir(mode=0o700)
    shutil.copy2(migrated_file, tmp_path / "data")
    monkeypatch.setenv("SEGMENTS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("SEGMENTS_REDIS_URL", raising=False)

    def run_command(*arguments: str, stdin: bytes | None = None) -> Result:
        result = CliRunner().invoke(main, arguments, input=stdin)
        # A traceback is never an answer to whoever sits at the terminal.
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        return result

    return run_command


@pytest.fixture
def ok(run: Command) -> Command:
    """Run a command that succeeds."""

    def run_well(*arguments: str, stdin: bytes | None = None) -> Result:
        result = run(*arguments, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result

    return run_well


@pytest.fixture
def store(valkey: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A store in reach of the commands, laid out."""
    monkeypatch.setenv("SEGMENTS_REDIS_URL", valkey.url)

    async def lay_out() -> None:
        async with connect(valkey.url) as client:
            await prepare(client, 10_000)

    asyncio.run(lay_out())
    return valkey
