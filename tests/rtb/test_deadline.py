import pytest

from rtb.deadline import deadline_ms


@pytest.mark.parametrize(
    ("tmax_ms", "expected_ms"),
    [
        pytest.param(120, 12.0, id="a tenth of tmax"),
        pytest.param(900, 20.0, id="capped when tmax is generous"),
        pytest.param(None, 20.0, id="cap alone when tmax is absent"),
        pytest.param(0, 20.0, id="zero is not said"),
        pytest.param(-5, 20.0, id="below zero is not said"),
    ],
)
def test_deadline_is_the_smaller_of_share_and_cap(
    tmax_ms: float | None, expected_ms: float
) -> None:
    assert deadline_ms(tmax_ms, share=0.1, cap_ms=20) == expected_ms
