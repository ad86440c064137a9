"""Tests that share what a machine has but once are run by one process of pytest-xdist."""

import os
import subprocess
import sys
from pathlib import Path

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
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup", "-c", os.devnull,
         "--rootdir", str(tmp_path), "test_group.py"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout
    workers = (tmp_path / "workers").read_text().split()
    assert len(workers) == 8
    assert len(set(workers)) == 1
