"""
Trimming the image's packages removes nothing that a process of ours opens.

The packages of the lock are laid out anew as links, trimmed, and everything of ours is loaded from
them. Without its sources, stripped and on the image's Python: tests/container.
"""

import importlib.util
import json
import re
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from types import ModuleType

import pytest

from tests.container import table

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def trim() -> ModuleType:
    spec = importlib.util.spec_from_file_location("trim", _ROOT / ".ci/trim_dependencies.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of the image, in links to the files of this environment."""
    folder = tmp_path_factory.mktemp("packages")
    lock = (_ROOT / "requirements-run.lock").read_text()
    for package in set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)):
        with suppress(PackageNotFoundError):  # of another Python
            for file in files(package) or ():
                if ".." not in file.parts:
                    (folder / file).parent.mkdir(parents=True, exist_ok=True)
                    (folder / file).symlink_to(file.locate())
    return folder


def test_all_of_ours_runs_without_what_is_trimmed(
    trim: ModuleType, packages: Path, tmp_path: Path
) -> None:
    to_go = trim.removable(packages)
    assert [pattern for pattern, paths in to_go.items() if not paths] == []

    trim.remove(packages)

    assert not any(path.exists() for paths in to_go.values() for path in paths)
    said = subprocess.run(
        [sys.executable, "-S", "-", str(tmp_path), str(table.write(tmp_path / "table.parquet"))],
        input=(_ROOT / "tests/container/load_all.py").read_bytes(),
        env={"PYTHONPATH": f"{packages}:{_ROOT}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr.decode()
    found = json.loads(said.stdout)
    assert (found["lacking"], found["rows"]) == ([], table.ROWS)
