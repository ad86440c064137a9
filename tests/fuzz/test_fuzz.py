"""
Every reader of foreign bytes under inputs that nobody would send.

Ten thousand each here, a million in the long run, which also looks for new steps in our code.
"""

import pytest

from tests.fuzz.drive import fuzz
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

_FEW, _MANY = 10_000, 1_000_000


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_laws_of_a_reader_hold_for_ten_thousand_inputs(target: Target) -> None:
    report = fuzz(target, _FEW)

    assert report.inputs == _FEW
    # Of readers that refuse all, or take all, nothing would be learnt.
    assert len(report.endings) > 1


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_laws_of_a_reader_hold_for_a_million_inputs(target: Target) -> None:
    assert fuzz(target, _MANY, seed=2, is_guided=True).inputs == _MANY
