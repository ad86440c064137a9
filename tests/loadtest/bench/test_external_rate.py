"""The bench of external runs loads each kind of file, and says how fast."""

import re
import subprocess
import sys

import pytest


@pytest.mark.long
def test_runs_of_both_kinds_are_loaded_whole() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "loadtest", "external", "--rows=2000"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    for kind in ("CSV", "Parquet"):
        assert re.search(
            rf"^  {kind} +[0-9,]+ +300,000  (reached|missed) ", ran.stdout, re.MULTILINE
        )
