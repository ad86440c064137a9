"""Latencies as the bench compares them: of answers that are as they were."""

import pytest

from loadtest.answers import Answer
from loadtest.bench.latency import latencies
from loadtest.driver import Exchange, Wrong
from loadtest.open_loop import steady_ns
from tests.loadtest.serving import HOST, REQUEST, serving

BODY = b'{"id":"2"}'
EXCHANGES = [Exchange(REQUEST, Answer(200, "enriched", BODY))]


def reply(outcome: str = "enriched", body: bytes = BODY) -> bytes:
    return (
        f"HTTP/1.1 200 OK\r\nX-Enrich-Outcome: {outcome}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


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
