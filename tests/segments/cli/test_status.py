"""`status --watch` on a terminal and off it."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import Engine
from tests.segments.cli.conftest import Command
from tests.segments.cli.test_accounts import add_partner
from tests.segments.cli.test_backup import deliver

_WITHIN_S = 60
_CTRL_C = b"\x03"


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, "-m", "segments", *arguments],  # for Ctrl-C
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "200", "LINES": "40"},
        )
        os.close(theirs)
        self.shown = ""

    def until(self, text: str) -> None:
        """Read on until the terminal has shown a text."""
        give_up_at_s = time.monotonic() + _WITHIN_S
        while text not in self.shown:
            assert time.monotonic() < give_up_at_s, self.shown
            if select.select([self._ours], [], [], 1.0)[0]:
                self.shown += os.read(self._ours, 1 << 16).decode()

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def watching(ok: Command) -> Iterator[Terminal]:
    add_partner(ok)
    terminal = Terminal("status", "--watch")
    yield terminal
    terminal.close()


def test_jobs_are_drawn_anew_as_they_change_until_ctrl_c(
    ok: Command, store: Engine, watching: Terminal, tmp_path: Path
) -> None:
    del store
    watching.until("TRANSACTION")
    before = watching.shown
    deliver(ok, tmp_path, rows=10)
    watching.until(" done ")
    watching.type(_CTRL_C)

    assert watching.process.wait(_WITHIN_S) == 0
    assert " done " not in before
    assert "Traceback" not in watching.shown
    assert "Aborted" not in watching.shown


def test_job_that_has_ended_is_shown_once(ok: Command, store: Engine, tmp_path: Path) -> None:
    del store
    add_partner(ok)
    deliver(ok, tmp_path, rows=10)
    terminal = Terminal("status", "1", "--watch")
    try:
        terminal.until("job 1: done")
        assert terminal.process.wait(_WITHIN_S) == 0
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [((), "standard output is none: call `status` again"), (("--json",), "exclude each other")],
)
def test_watch_is_refused_where_nothing_can_be_drawn(
    run: Command, options: tuple[str, ...], said: str
) -> None:
    result = run("status", "--watch", *options)

    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
