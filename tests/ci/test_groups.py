"""Tests that share what a machine has but once are run by one process, and once more alone."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

_RUN = Path(__file__).parents[2] / ".ci/run"

_TESTS = """
import pytest

pytestmark = pytest.mark.xdist_group("one")

@pytest.mark.parametrize("number", range(8))
def test_it(number, worker_id):
    with open("workers", "a") as file:
        print(worker_id, file=file)
"""


def test_tests_of_one_group_are_run_by_one_process(tmp_path: Path) -> None:
    """
    A pytest that xdist does not know leaves the groups out without a word.
    """
    (tmp_path / "test_group.py").write_text(_TESTS)

    done = _pytest(tmp_path, "-n", "2")

    assert done.returncode == 0, done.stdout
    workers = (tmp_path / "workers").read_text().split()
    assert len(workers) == 8
    assert len(set(workers)) == 1


def test_test_of_a_group_that_failed_is_run_again_without_the_others(tmp_path: Path) -> None:
    """
    Its name ends in that of its group, and without a process of xdist no test is found by it: all
    were run again then, one at a time, for as long as the machine let them.
    """
    (tmp_path / "test_group.py").write_text(_TESTS + "    assert number != 5\n")
    again = _RUN.read_text().rpartition(".venv/bin/pytest ")[2].splitlines()[0]

    first = _pytest(tmp_path, "-n", "2")
    (tmp_path / "workers").unlink()
    second = _pytest(tmp_path, *shlex.split(again))

    assert "1 failed, 7 passed" in first.stdout
    assert "1 failed in" in second.stdout
    assert len((tmp_path / "workers").read_text().split()) == 1


def _pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--dist", "loadgroup", "-c", os.devnull,
         "--rootdir", str(folder), *options, "test_group.py"],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
