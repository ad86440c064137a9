"""Tests that share what a machine has but once are run by one process."""

from pathlib import Path

from tests.ci.own_pytest import OF_A_GROUP, run_pytest


def test_tests_of_one_group_are_run_by_one_process(tmp_path: Path) -> None:
    """
    A pytest that xdist does not know leaves the groups out without a word.
    """
    done = run_pytest(tmp_path, OF_A_GROUP, "-n", "2")

    assert done.returncode == 0, done.stdout
    workers = (tmp_path / "workers").read_text().split()
    assert len(workers) == 8
    assert len(set(workers)) == 1
