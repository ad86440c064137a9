"""Open loop: what was due is sent, and its time counts from then, whoever made it wait."""

import time
from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest

from loadtest.open_loop import NotAnswered, Sample, open_loop, poisson_ns, steady_ns
from tests.loadtest.serving import HOST, REQUEST, Reply, serving

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
SAYS_CLOSE = ANSWER.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")
MS = 1_000_000


def whole(_: int, received: bytes) -> bytes | None:
    return received if received.endswith(b"{}") else None


def driven(reply: Reply, due_ns: Sequence[int], connections: int = 4) -> list[Sample[bytes]]:
    with serving(reply) as port:
        return open_loop(
            (HOST, port), [REQUEST], due_ns=due_ns, connections=connections, read=whole
        )


def test_steady_schedule_has_the_rate_asked_for_and_equal_gaps() -> None:
    assert steady_ns(500, 5) == [0, 2 * MS, 4 * MS, 6 * MS, 8 * MS]


def test_steady_schedule_does_not_drift_where_a_gap_is_no_whole_number() -> None:
    assert steady_ns(3, 3_000_001)[-1] == 1_000_000_000_000_000


def test_poisson_schedule_has_the_rate_asked_for_and_gaps_of_independent_senders() -> None:
    due_ns = poisson_ns(1_000, 20_000, Random(1))

    gaps = [after - before for before, after in pairwise(due_ns)]
    mean_ns = sum(gaps) / len(gaps)
    assert due_ns == sorted(due_ns)
    assert mean_ns == pytest.approx(MS, rel=0.03)
    # An exponential's share of gaps below its mean: 1 - 1/e.
    assert sum(gap < mean_ns for gap in gaps) / len(gaps) == pytest.approx(0.632, abs=0.02)


def test_same_seed_is_the_same_schedule() -> None:
    assert poisson_ns(500, 50, Random(3)) == poisson_ns(500, 50, Random(3))


def test_no_request_is_sent_before_it_is_due() -> None:
    arrived_at_ns: list[int] = []

    def note(n: int) -> bytes:
        arrived_at_ns.append(time.monotonic_ns())
        return ANSWER

    due_ns = [20 * MS * n for n in range(1, 11)]
    with serving(note) as port:
        started_at_ns = time.monotonic_ns()
        samples = open_loop((HOST, port), [REQUEST], due_ns=due_ns, connections=2, read=whole)

    sent_after_ns = [at_ns - started_at_ns for at_ns in arrived_at_ns]
    assert [sample.answer for sample in samples] == [ANSWER] * len(due_ns)
    assert all(sent >= due for sent, due in zip(sent_after_ns, due_ns, strict=True))


@pytest.mark.parametrize("connections", [1, 4])
def test_requests_due_while_the_server_is_stuck_have_waited_for_it(connections: int) -> None:
    """
    The coordinated omission: a closed loop would see one slow answer a connection here.
    """

    def stuck_once(n: int) -> bytes:
        if n == 10:
            time.sleep(0.2)
        return ANSWER

    samples = driven(stuck_once, steady_ns(500, 100), connections)

    assert max(sample.latency_ns for sample in samples) >= 190 * MS
    # Those due in the first half of the 200 ms have waited for the second.
    assert sum(sample.latency_ns >= 100 * MS for sample in samples) >= 45
    # ... and all but those that had a connection, before they were even sent.
    assert sum(sample.held_up_ns >= 50 * MS for sample in samples) >= 60


def test_sample_says_whose_answer_it_is() -> None:
    sent = [REQUEST] * 3

    def numbered(request: int, received: bytes) -> int | None:
        return None if whole(request, received) is None else request

    with serving(lambda _: ANSWER) as port:
        samples = open_loop(
            (HOST, port), sent, due_ns=steady_ns(1_000, 9), connections=4, read=numbered
        )

    assert sorted(sample.request for sample in samples) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert all(sample.answer == sample.request for sample in samples)


@pytest.mark.parametrize(
    ("ending", "seen"),
    [
        pytest.param(b"", None, id="closed without an answer"),
        pytest.param(SAYS_CLOSE, SAYS_CLOSE, id="said so"),
    ],
)
def test_connection_that_ended_is_opened_anew(ending: bytes, seen: bytes | None) -> None:
    samples = driven(lambda n: ending if n % 10 == 0 else ANSWER, steady_ns(200, 100))

    answers = [sample.answer for sample in samples]
    assert answers.count(seen) == 10
    assert answers.count(ANSWER) == 90


def test_connection_that_ended_between_two_requests_loses_none() -> None:
    with serving(lambda _: ANSWER, ends_behind=[1, 2]) as port:
        samples = open_loop(
            (HOST, port), [REQUEST], due_ns=steady_ns(10, 4), connections=1, read=whole
        )

    assert [sample.answer for sample in samples] == [ANSWER] * 4


def test_answer_that_is_wrong_ends_the_run() -> None:
    def refuse(_: int, received: bytes) -> bytes:
        raise ValueError("another answer than before")

    with serving(lambda _: ANSWER) as port, pytest.raises(ValueError, match="than before"):
        open_loop((HOST, port), [REQUEST], due_ns=[0], connections=1, read=refuse)


def test_nobody_there_is_an_error() -> None:
    with serving(lambda _: ANSWER) as port:
        pass

    with pytest.raises(NotAnswered, match="ConnectionRefusedError"):
        open_loop((HOST, port), [REQUEST], due_ns=[0], connections=1, read=whole)
