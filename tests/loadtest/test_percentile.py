"""Percentiles by nearest rank: values that were measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.percentile import percentile


@pytest.mark.parametrize(
    ("percent", "expected"),
    [
        pytest.param(50, 5, id="median of ten is the fifth"),
        pytest.param(51, 6, id="a little more takes the next"),
        pytest.param(90, 9, id="ninth of ten"),
        pytest.param(99, 10, id="99 of ten is the last"),
        pytest.param(100, 10, id="all"),
        pytest.param(1, 1, id="the first"),
        pytest.param(99.9, 10, id="a part of a percent takes the last"),
    ],
)
def test_percentile_is_by_nearest_rank(percent: float, expected: float) -> None:
    assert percentile(range(1, 11), percent) == expected


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.1, 100))
def test_percentile_is_the_least_value_that_enough_do_not_exceed(
    values: list[float], percent: float
) -> None:
    values.sort()

    found = percentile(values, percent)

    share = len(values) * percent / 100
    assert sum(value <= found for value in values) >= share
    assert sum(value < found for value in values) < share


@pytest.mark.parametrize(
    ("values", "percent"),
    [
        pytest.param([], 50, id="of nothing"),
        pytest.param([1.0], 0, id="zero percent"),
        pytest.param([1.0], 101, id="more than all"),
    ],
)
def test_percentile_that_is_none_is_an_error(values: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, percent)
