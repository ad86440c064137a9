"""
What is compiled: the rule in pyproject.toml, and whether a bid runs through anything else.
"""

import asyncio
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pathspec
import pytest

from tests.engines import Engine

ROOT = Path(__file__).parents[2]
PYPROJECT = ROOT / "pyproject.toml"
REASON = re.compile(r'^    "(?P<pattern>[^"]+)", +# (?P<reason>.+)$', re.MULTILINE)


def hook() -> dict[str, Any]:
    project = tomllib.loads(PYPROJECT.read_text())
    options: dict[str, Any] = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]
    return options


def by_mypyc() -> set[str]:
    """Return the paths that the rule names, matched as git, and so hatch-mypyc, does."""
    rule = hook()["mypyc"]
    included, excluded = (
        pathspec.PathSpec.from_lines("gitignore", rule[key]) for key in ("include", "exclude")
    )
    paths = (
        path.relative_to(ROOT).as_posix()
        for package in ("rtb", "segments")
        for path in (ROOT / package).rglob("*.py")
    )
    return {path for path in paths if included.match_file(path) and not excluded.match_file(path)}


def by_cython() -> set[str]:
    modules = runpy.run_path(str(ROOT / hook()["custom"]["path"]))["MODULES"]
    return set(modules.values())


def module_of(path: str) -> str:
    return path.removesuffix(".py").removesuffix(".pyx").replace("/", ".")


async def test_no_module_that_a_bid_runs_through_is_left_interpreted(valkey: Engine) -> None:
    """
    Bids of every form, with a cache and without, with ids that are remembered: see `bid_modules`.
    """
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.edge.bid_modules", valkey.url),
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    said, _ = await program.communicate()
    ran = set(said.decode().split())

    assert program.returncode == 0
    assert {"rtb.pipeline", "rtb.lookup.near_cache.cache", "segments.model.record"} <= ran
    assert ran - set(map(module_of, by_mypyc() | by_cython())) == set()


def test_every_exception_to_the_rule_is_a_file_and_has_its_reason() -> None:
    patterns = hook()["mypyc"]["exclude"]
    text = PYPROJECT.read_text()

    reasons = {found["pattern"]: found["reason"] for found in REASON.finditer(text)}

    assert [pattern for pattern in patterns if not reasons.get(pattern)] == []
    assert [each for each in patterns if "/" in each and not (ROOT / each[1:]).is_file()] == []


@pytest.mark.skipif(shutil.which("make") is None, reason="nobody compiles by make here")
def test_make_compiles_anew_when_any_source_has_changed() -> None:
    printing = ["make", "--silent", "--eval", "sources: ; @echo $(SOURCES)", "sources"]

    sources = subprocess.run(printing, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert (by_mypyc() | by_cython()) - set(sources.split()) == set()


def test_where_one_module_is_compiled_all_are() -> None:
    """
    A compiled module that the rule does not name any more would go on as it was.
    """
    suffix = EXTENSION_SUFFIXES[0]
    compiled = {
        path.relative_to(ROOT).as_posix().removesuffix(suffix) + ".py"
        for package in ("rtb", "segments")
        for path in (ROOT / package).rglob(f"*{suffix}")
    }
    sources = {path.removesuffix("x") for path in by_mypyc() | by_cython()}

    without_library = sources - {"rtb/server/http2/nghttp2.py"}
    assert compiled in (set(), sources, without_library)
    for path in by_mypyc():
        module = import_module(module_of(path))
        assert str(module.__file__).endswith(suffix if compiled else ".py")
