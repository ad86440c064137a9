"""One of each fault under load, with files and opt-outs meanwhile: no answer is wrong."""

import subprocess
import sys

import pytest


@pytest.mark.timeout(300)
def test_no_answer_is_wrong_whatever_happens_meanwhile() -> None:
    options = ["--requests", "20000", "--ids", "2000", "--different", "800"]
    pace = ["--waves", "6", "--calm-s", "0.3", "--drivers", "2"]

    soak = subprocess.run(
        [sys.executable, "-m", "loadtest", "soak", *options, *pace],
        check=False,
        capture_output=True,
        text=True,
    )

    report = soak.stdout + soak.stderr
    assert soak.returncode == 0, report[-4_000:]
    assert soak.stdout.rstrip().endswith("holds")
