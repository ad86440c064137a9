"""What has not passed is run once more, whether it failed, hung or was never begun."""

import shlex
import signal
import subprocess
import time
from pathlib import Path

from tests.ci.own_pytest import OF_A_GROUP, argv, environment, run_pytest

_ROOT = Path(__file__).parents[2]

_ONE_OF_A_GROUP_FAILS = OF_A_GROUP + "    assert number != 5\n"

_FAILS_AFTERWARDS = """
import pytest

@pytest.fixture
def thing(): yield; assert False

def test_whole(): pass
def test_skipped(): pytest.skip("not here")
def test_left_open(thing): pass
"""

_HANGS_ONCE = """
import pathlib, time

def test_before(): pass
def test_that_hangs():
    mark = pathlib.Path("begun")
    if not mark.exists():
        mark.touch()
        time.sleep(60)
def test_after(): pass
"""


def test_test_of_a_group_that_failed_is_run_again_without_the_others(tmp_path: Path) -> None:
    """
    Its name ends in that of its group, and only a process of xdist knows it by that.
    """
    again = (_ROOT / ".ci/run").read_text().rpartition(".venv/bin/pytest ")[2].splitlines()[0]

    first = run_pytest(tmp_path, _ONE_OF_A_GROUP_FAILS, "-n", "2")
    (tmp_path / "workers").unlink()
    second = run_pytest(tmp_path, _ONE_OF_A_GROUP_FAILS, *shlex.split(again))

    assert "1 failed, 7 passed" in first.stdout
    assert "1 failed in" in second.stdout
    assert len((tmp_path / "workers").read_text().split()) == 1


def test_test_whose_fixture_failed_has_not_passed_and_one_that_was_skipped_has(
    tmp_path: Path,
) -> None:
    run_pytest(tmp_path, _FAILS_AFTERWARDS, "-n0")
    second = run_pytest(tmp_path, _FAILS_AFTERWARDS, "-n0", "--unpassed")
    third = run_pytest(tmp_path, _FAILS_AFTERWARDS, "-n0", "--unpassed")

    for done in (second, third):
        assert "1 passed, 2 deselected, 1 error" in done.stdout


def test_run_that_was_killed_leaves_what_it_had_not_come_to(tmp_path: Path) -> None:
    command = argv(tmp_path, _HANGS_ONCE, "-n0")
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE) as run:
        until = time.monotonic() + 60
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        run.send_signal(signal.SIGKILL)
    second = run_pytest(tmp_path, _HANGS_ONCE, "-n0", "--unpassed")

    assert "2 passed, 1 deselected" in second.stdout
