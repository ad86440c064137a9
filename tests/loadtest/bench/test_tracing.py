"""`python -m loadtest tracing`: what its report says of what was measured."""

import os
import sys

import pytest

from loadtest.bench.tracing import Extent, Measured, report
from loadtest.processes import parent_of


def costing(on: float) -> Measured:
    """Two rounds, of which the second found a machine of half the speed."""
    costs = {"off": (20.0, 40.0), "off again": (20.2, 40.4), "on": (20.1 * on, 40.2 * on)}
    return Measured({"JSON": costs}, {"off": 0.0003, "on": 0.0009}, spans=28, points=29)


@pytest.mark.parametrize(
    ("on", "told", "verdict"), [(1.015, "1.015", "reached"), (1.03, "1.030", "missed")]
)
def test_listeners_are_compared_within_a_round(on: float, told: str, verdict: str) -> None:
    said = report("head", Extent(1_000, 1_000, 2), costing(on))

    assert f"| 1.010 (1.010-1.010) | {told} ({told}-{told}) |" in said
    assert f"JSON: {told} of the CPU without; at most 1.02: {verdict}" in said
    assert "off 0.03%, on 0.09%" in said


def test_parent_of_a_process_is_found_whatever_its_name() -> None:
    assert sys.platform == "linux"
    assert parent_of(os.getpid()) == os.getppid()
