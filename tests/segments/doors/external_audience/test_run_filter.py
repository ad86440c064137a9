"""Which runs the conditions of a list let through, and how one that is none is refused."""

import pytest

from segments.doors.external_audience.run_filter import (
    WrongFilter,
    is_named,
    run_filter,
    states_of,
    times_of,
)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        pytest.param((), ["SUCCESS", "FAILED", "PROCESSING"], id="none"),
        pytest.param(("status=SUCCESS",), ["SUCCESS"], id="one"),
        pytest.param(("status!=FAILED",), ["SUCCESS", "PROCESSING"], id="all others"),
        pytest.param(("status=containsSUCC",), ["SUCCESS"], id="a part"),
        pytest.param(("status!=containsS",), ["FAILED"], id="without a part"),
        pytest.param(("status!=FAILED", "status!=SUCCESS"), ["PROCESSING"], id="several"),
    ],
)
def test_states_are_those_of_which_every_condition_holds(
    conditions: tuple[str, ...], expected: list[str]
) -> None:
    assert states_of([run_filter(each) for each in conditions]) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        pytest.param("ingestionTime<1683669114845", ("<", 1683669115), id="the example, in ms"),
        pytest.param("createdAt>=1683669114845", (">=", 1683669115), id="from within a second"),
        pytest.param("createdAt<=1683669114845", ("<=", 1683669114), id="up to within a second"),
        pytest.param("createdAt>1683669114845", (">", 1683669114), id="after within a second"),
        pytest.param("createdAt>=1700000000", (">=", 1700000000), id="in seconds"),
        pytest.param("ingestionTime!=1700000000", ("!=", 1700000000), id="any other time"),
    ],
)
def test_times_are_compared_in_the_seconds_that_are_kept(
    condition: str, expected: tuple[str, int]
) -> None:
    assert times_of([run_filter(condition)]) == [expected]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (("name=Buyers",), True),
        (("name!=Buyers",), False),
        (("name=containsuye",), True),
        (("name!=containsx", "name=containsB"), True),
        (("name=containsB", "name=Other"), False),
    ],
)
def test_name_is_that_of_the_audience(conditions: tuple[str, ...], *, expected: bool) -> None:
    assert is_named("Buyers", [run_filter(each) for each in conditions]) is expected


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        pytest.param(
            "runId=7",
            "compares none of name, status, ingestionTime and createdAt, as status=SUCCESS does",
            id="another property",
        ),
        pytest.param(
            "name<a", "compares name otherwise than by = != =contains !=contains", id="a text by <"
        ),
        pytest.param(
            "createdAt=contains17",
            "compares createdAt otherwise than by < <= > >= = !=",
            id="a part of a time",
        ),
        pytest.param(
            "createdAt>=2026-01-01",
            "compares createdAt with no unix time, as 1749324248 is",
            id="a day",
        ),
        pytest.param(
            "status=DONE",
            "compares status with none of SUCCESS, FAILED, PROCESSING",
            id="another state",
        ),
        pytest.param("name=", "compares name with no text of 1 to 256", id="no name"),
    ],
)
def test_condition_that_is_none_is_told_what_there_is(condition: str, message: str) -> None:
    with pytest.raises(WrongFilter) as wrong:
        run_filter(condition)

    assert str(wrong.value) == message
