"""Latencies as the bench compares them: by nearest rank, of answers that are as they were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.answers import Answer
from loadtest.driver import Exchange, Wrong
from loadtest.latency import latencies, percentile
from loadtest.open_loop import steady_ns
from tests.loadtest.serving import HOST, REQUEST, serving

BODY = b'{"id":"2"}'
EXCHANGES = [Exchange(REQUEST, Answer(200, "enriched", BODY))]


def reply(outcome: str = "enriched", body: bytes = BODY) -> bytes:
    return (
        f"HTTP/1.1 200 OK\r\nX-Enrich-Outcome: {outcome}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


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


def test_late_answers_are_counted_and_are_no_error() -> None:
    with serving(lambda n: reply("out_of_time", b"{}") if n % 10 == 0 else reply()) as port:
        found = latencies(HOST, port, EXCHANGES, connections=4, due_ns=steady_ns(1_000, 100))

    assert found.late == 10
    assert len(found.ms) == 100
    assert found.ms == sorted(found.ms)
    assert found.percentile(100) == found.ms[-1]


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(reply("no_match"), id="another outcome"),
        pytest.param(reply(body=b"{}"), id="shorter"),
        pytest.param(b"", id="closed connection"),
    ],
)
def test_one_answer_that_differs_is_an_error(wrong: bytes) -> None:
    with (
        serving(lambda n: wrong if n == 30 else reply()) as port,
        pytest.raises(Wrong),
    ):
        latencies(HOST, port, EXCHANGES, connections=4, due_ns=steady_ns(1_000, 50))
