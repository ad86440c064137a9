"""An image has, and is built with, the very versions that the tests ran with."""

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


def _pins(lock: str) -> set[tuple[str, str]]:
    """Return each package with its version; one with a version for each Python is in it twice."""
    text = (_ROOT / lock).read_text(encoding="utf-8")
    return set(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        ("requirements-slim.lock", "requirements-run.lock"),
        ("requirements-run.lock", "requirements.lock"),
        ("requirements-build.lock", "requirements.lock"),
    ],
)
def test_lock_pins_nothing_that_the_larger_lock_does_not(smaller: str, larger: str) -> None:
    pins = _pins(smaller)

    assert pins
    assert pins - _pins(larger) == set()
