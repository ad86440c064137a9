"""The verdict of the acceptance run, and the judging of what it has seen."""

from collections import Counter

import pytest

from loadtest.accept import Limits, Measured


def measured(latencies_ms: list[float], wrong: int = 0) -> Measured:
    return Measured(sorted(latencies_ms), [0.0], Counter(), ["why"] * wrong)


@pytest.mark.parametrize(
    ("seen", "missed"),
    [
        pytest.param(measured([1.0] * 100), [], id="nothing"),
        pytest.param(measured([1.0] * 95 + [6.0] * 5), [], id="five of a hundred over"),
        pytest.param(
            measured([1.0] * 94 + [6.0] * 6), ["p95, ms", "over 5 ms, %"], id="six of a hundred"
        ),
        pytest.param(measured([2.0] * 100), ["mean, ms"], id="the mean on the limit"),
        pytest.param(measured([1.0] * 100, wrong=1), ["wrong answers"], id="one wrong answer"),
    ],
)
def test_verdict_is_of_each_limit(seen: Measured, missed: list[str]) -> None:
    rows = seen.rows(Limits())

    assert [row.what for row in rows if not row.holds] == missed
