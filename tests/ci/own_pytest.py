"""A pytest in a process of its own, over tests that are written for it."""

import os
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]

OF_A_GROUP = """
import pytest

pytestmark = pytest.mark.xdist_group("one")

@pytest.mark.parametrize("number", range(8))
def test_it(number, worker_id):
    with open("workers", "a") as file:
        print(worker_id, file=file)
"""


def run_pytest(folder: Path, tests: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run some tests to their end."""
    return subprocess.run(
        argv(folder, tests, *options), cwd=folder, env=environment(),
        capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip


def argv(folder: Path, tests: str, *options: str) -> list[str]:
    """Write some tests to a folder; return the command that runs them."""
    (folder / "test_it.py").write_text(tests)
    return [sys.executable, "-m", "pytest", "-q", "--dist", "loadgroup", "-c", os.devnull,
            "-p", "tests.unpassed", "--rootdir", str(folder), *options, "test_it.py"]  # fmt: skip


def environment() -> dict[str, str]:
    """Return ours without what the pytest around it has set."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return kept | {"PYTHONPATH": str(_ROOT)}
