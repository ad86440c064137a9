"""
The release before, as its deployments are: a sample of its ledger, store and blobs; its code.

The sample was made by `make_sample.py` in a tree of `COMMIT`. The code is taken from this
repository's history where that reaches so far back.
"""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

VERSION = "0.1.0"
COMMIT = "9efd25f42b3ec9d30726ae6f09b77724de15fd1a"
FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
EXPECTED_IDS = "10000"

NO_LONGER_READ = {"RTB_CATALOG_MAX_AGE_S"}
"""Its settings that this release does not have; docs/upgrade.md names each."""


def unpack_sample(data_dir: Path) -> None:
    """Lay out a data directory as the release before left it."""
    data_dir.mkdir(mode=0o700)
    with tarfile.open(FOLDER / f"release-{VERSION}.tar.gz") as sample:
        sample.extractall(data_dir, filter="data")


def has_code() -> bool:
    """Whether the history here holds the release before."""
    asked = ["git", "-C", str(ROOT), "cat-file", "-e", f"{COMMIT}^{{commit}}"]
    return subprocess.run(asked, check=False, capture_output=True).returncode == 0


def unpack_code(to: Path) -> None:
    """Lay out the tree of the release before, uncompiled."""
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", COMMIT], check=True, capture_output=True
    ).stdout
    to.mkdir()
    subprocess.run(["tar", "-x", "-C", str(to)], input=packed, check=True)


def make_sample(tree: Path, scratch: Path, **environment: str) -> None:
    """Make a deployment by the code of a tree."""
    scratch.mkdir()
    subprocess.run(
        [sys.executable, str(FOLDER / "make_sample.py"), str(scratch)],
        cwd=tree,
        env={**os.environ, "SEGMENTS_EXPECTED_IDS": EXPECTED_IDS, **environment},
        check=True,
    )
