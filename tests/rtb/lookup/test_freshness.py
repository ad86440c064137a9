import pytest

from rtb.lookup.freshness import Freshness

RUN, OTHER_RUN = b"a:1", b"b:1"


def test_number_that_merely_stands_there_is_not_fresh() -> None:
    freshness = Freshness(60)

    freshness.take(RUN, b"7", 0)
    freshness.take(RUN, b"7", 1)

    assert freshness.left_s(1) <= 0


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param((b"7", b"8"), id="raised"),
        pytest.param((None, b"1"), id="raised for the first time"),
        pytest.param((b"8", b"2"), id="emptied and raised again"),
    ],
)
def test_number_that_changes_is_fresh_for_as_long_as_was_said(numbers: tuple[object, ...]) -> None:
    freshness = Freshness(60)

    for at_s, number in enumerate(numbers):
        freshness.take(RUN, number, at_s)

    assert freshness.left_s(1) == 60
    assert freshness.left_s(60.5) == 0.5
    assert freshness.left_s(61) == 0


@pytest.mark.parametrize("number", [None, Exception("MOVED")], ids=["no number", "an error"])
def test_what_is_no_number_is_no_change(number: object) -> None:
    freshness = Freshness(60)

    freshness.take(RUN, b"7", 0)
    freshness.take(RUN, number, 1)

    assert freshness.left_s(1) <= 0


def test_another_run_of_the_server_begins_anew() -> None:
    """
    Its number may be as old as the copy that it has read.
    """
    freshness = Freshness(60)
    freshness.take(RUN, b"7", 0)
    freshness.take(RUN, b"8", 1)

    freshness.take(OTHER_RUN, b"9", 2)
    before_s = freshness.left_s(2)
    freshness.take(OTHER_RUN, b"10", 3)

    assert before_s <= 0
    assert freshness.left_s(3) == 60


def test_0_switches_it_off() -> None:
    assert Freshness(0).left_s(1e9) > 0
