"""
Run again what has not passed: `pytest --unpassed`.

Pytest's own `--last-failed` knows what failed, when the run came to its end. A run that was broken
off, or that hung and was killed, leaves tests that nobody has seen pass: they are run as well.
"""

from pathlib import Path

import pytest

_PASSED, _PASSED_BEFORE = "passed", "passed-before"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--unpassed`."""
    parser.addoption(
        "--unpassed", action="store_true", help="only the tests that did not pass in the last run"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Keep what passed, in a file that a killed run leaves behind."""
    cache = getattr(config, "cache", None)
    if hasattr(config, "workerinput") or cache is None:
        return
    folder = cache.mkdir("unpassed")
    passed, before = folder / _PASSED, folder / _PASSED_BEFORE
    if config.getoption("--unpassed"):
        # Set apart before anything runs: a worker that takes the place of one that crashed
        # must find the same tests as the others.
        with before.open("a") as names:
            names.write(passed.read_text() if passed.exists() else "")
    else:
        before.unlink(missing_ok=True)
    config.pluginmanager.register(_Recorder(passed))


@pytest.hookimpl(trylast=True)  # xdist has named each test's group by then, as its report does
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what has passed."""
    cache = getattr(config, "cache", None)
    if cache is None or not config.getoption("--unpassed"):
        return
    before = cache.mkdir("unpassed") / _PASSED_BEFORE
    passed = set(before.read_text().splitlines()) if before.exists() else set()
    left_out = [item for item in items if _line(item.nodeid) in passed]
    items[:] = [item for item in items if _line(item.nodeid) not in passed]
    config.hook.pytest_deselected(items=left_out)


class _Recorder:
    """Writes down each test that passed, or was skipped, in all of its three phases."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", buffering=1)
        self._failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)
        if report.when == "teardown" and report.nodeid not in self._failed:
            print(_line(report.nodeid), file=self._file)

    def pytest_unconfigure(self) -> None:
        self._file.close()


def _line(name: str) -> str:
    # Pytest escapes control characters in a test's name; a lone surrogate can't be written.
    return name.encode(errors="backslashreplace").decode().replace("\n", "\\n")
