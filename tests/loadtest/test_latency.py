"""Open loop: a request's time counts from when it was due, whoever made it wait."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.answers import Answer
from loadtest.driver import Exchange, Wrong
from loadtest.latency import intended_ns, latencies, percentile

HOST = "127.0.0.1"
REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
BODY = b'{"id":"2"}'
MS = 1_000_000

Reply = Callable[[int], bytes]


def reply(outcome: str = "enriched", body: bytes = BODY) -> bytes:
    return (
        f"HTTP/1.1 200 OK\r\nX-Enrich-Outcome: {outcome}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


EXCHANGES = [Exchange(REQUEST, Answer(200, "enriched", BODY))]


@contextmanager
def serving(reply_to: Reply) -> Iterator[int]:
    """A server of its own threads that answers its n-th request with `reply_to(n)`, in pieces."""
    served = 0
    lock = threading.Lock()

    def serve(connection: socket.socket) -> None:
        nonlocal served
        with connection, suppress(ConnectionError):
            while connection.recv(len(REQUEST), socket.MSG_WAITALL) == REQUEST:
                with lock:
                    served += 1
                    answer = reply_to(served)
                if not answer:
                    return
                connection.sendall(answer[:20])
                connection.sendall(answer[20:])

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                thread = threading.Thread(target=serve, args=(connection,))
                threads.append(thread)
                thread.start()

    threads: list[threading.Thread] = []
    with socket.create_server((HOST, 0)) as listener:
        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for thread in threads:
                thread.join()


@pytest.mark.parametrize(
    ("percent", "expected"),
    [
        pytest.param(50, 5, id="median of ten is the fifth"),
        pytest.param(51, 6, id="a little more takes the next"),
        pytest.param(90, 9, id="ninth of ten"),
        pytest.param(99, 10, id="99 of ten is the last"),
        pytest.param(100, 10, id="all"),
        pytest.param(1, 1, id="the first"),
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


def test_schedule_has_the_rate_asked_for_and_gaps_of_independent_senders() -> None:
    due_ns = intended_ns(1_000, 20_000, Random(1))

    gaps = [after - before for before, after in pairwise(due_ns)]
    mean_ns = sum(gaps) / len(gaps)
    assert due_ns == sorted(due_ns)
    assert mean_ns == pytest.approx(MS, rel=0.03)
    # An exponential's share of gaps below its mean: 1 - 1/e.
    assert sum(gap < mean_ns for gap in gaps) / len(gaps) == pytest.approx(0.632, abs=0.02)


def test_same_seed_is_the_same_schedule() -> None:
    assert intended_ns(500, 50, Random(3)) == intended_ns(500, 50, Random(3))


def test_no_request_is_sent_before_it_is_due() -> None:
    arrived_at_ns: list[int] = []

    def note(n: int) -> bytes:
        arrived_at_ns.append(time.monotonic_ns())
        return reply()

    due_ns = [20 * MS * n for n in range(1, 11)]
    with serving(note) as port:
        started_at_ns = time.monotonic_ns()
        found = latencies(HOST, port, EXCHANGES, connections=2, due_ns=due_ns)

    sent_after_ns = [at_ns - started_at_ns for at_ns in arrived_at_ns]
    assert len(found.ms) == len(due_ns)
    assert all(sent >= due for sent, due in zip(sent_after_ns, due_ns, strict=True))


def test_requests_due_while_the_server_is_stuck_have_waited_for_it() -> None:
    """
    The coordinated omission: a closed loop would see one slow answer here.
    """

    def stuck_once(n: int) -> bytes:
        if n == 10:
            time.sleep(0.2)
        return reply()

    due_ns = [2 * MS * n for n in range(100)]
    with serving(stuck_once) as port:
        found = latencies(HOST, port, EXCHANGES, connections=1, due_ns=due_ns)

    assert found.ms == sorted(found.ms)
    assert found.percentile(100) >= 200
    # Those due in the first half of the 200 ms have waited for the second.
    assert sum(ms >= 100 for ms in found.ms) >= 45


def test_late_answers_are_counted_and_are_no_error() -> None:
    with serving(lambda n: reply("out_of_time", b"{}") if n % 10 == 0 else reply()) as port:
        found = latencies(HOST, port, EXCHANGES, connections=4, due_ns=range(0, 100 * MS, MS))

    assert found.late == 10
    assert len(found.ms) == 100


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
        latencies(HOST, port, EXCHANGES, connections=4, due_ns=range(0, 50 * MS, MS))
