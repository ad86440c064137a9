"""The driver of the acceptance: what was due is sent, and counts from when it was due."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from loadtest.accept import Limits, Measured, percentile
from loadtest.open_loop import NotAnswered, Sample, open_loop
from loadtest.soak.judge import end_of

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
STALL_S = 0.4

Reply = Callable[[int], bytes]


@contextmanager
def serving(reply: Reply) -> Iterator[tuple[str, int]]:
    """Answer the n-th request of all connections with `reply(n)`; empty closes."""
    lock = threading.Lock()
    served = 0

    def serve(client: socket.socket) -> None:
        nonlocal served
        with client:
            while client.recv(1024):
                # One at a time, as a service on one core.
                with lock:
                    served += 1
                    answer = reply(served)
                if not answer:
                    return
                client.sendall(answer)

    def accept(listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=serve, args=(client,))
            thread.start()
            threads.append(thread)

    threads: list[threading.Thread] = []
    listening = socket.create_server(("127.0.0.1", 0))
    accepting = threading.Thread(target=accept, args=(listening,))
    accepting.start()
    try:
        yield listening.getsockname()
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for thread in (accepting, *threads):
            thread.join()


def driven(reply: Reply, *, count: int = 100, rate_per_s: float = 200.0) -> list[Sample]:
    with serving(reply) as address:
        return open_loop(
            address, [REQUEST], rate_per_s=rate_per_s, count=count, connections=4, end_of=end_of
        )


def test_requests_come_at_their_rate_and_each_is_answered() -> None:
    began_s = time.perf_counter()

    samples = driven(lambda _: ANSWER)

    assert [sample.answer for sample in samples] == [ANSWER] * 100
    assert time.perf_counter() - began_s >= 99 / 200


def test_what_was_due_while_the_service_stood_still_counts_from_then() -> None:
    """
    A closed loop would have sent four requests meanwhile, and seen four that took long.
    """

    def stalled(n: int) -> bytes:
        if n == 20:
            time.sleep(STALL_S)
        return ANSWER

    samples = driven(stalled)

    due_meanwhile = STALL_S * 200
    slow = [sample for sample in samples if sample.latency_s > STALL_S / 4]
    assert due_meanwhile / 2 < len(slow) <= 100
    assert sum(sample.held_up_s > STALL_S / 8 for sample in samples) > due_meanwhile / 4


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(b"", id="closed without an answer"),
        pytest.param(ANSWER.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"), id="said so"),
    ],
)
def test_connection_that_ended_is_opened_anew(ending: bytes) -> None:
    samples = driven(lambda n: ending if n % 10 == 0 else ANSWER)

    assert [sample.answer for sample in samples].count(ending) == 10
    assert [sample.answer for sample in samples].count(ANSWER) == 90


def test_nobody_there_is_an_error() -> None:
    with serving(lambda _: ANSWER) as address:
        pass

    with pytest.raises(NotAnswered, match="ConnectionRefusedError"):
        open_loop(address, [REQUEST], rate_per_s=10, count=1, connections=1, end_of=end_of)


@pytest.mark.parametrize(
    ("percent", "expected"),
    [(50, 50.0), (95, 95.0), (99.9, 100.0), (0.5, 1.0), (100, 100.0)],
)
def test_percentile_is_the_least_value_that_so_many_do_not_exceed(
    percent: float, expected: float
) -> None:
    assert percentile([float(n) for n in range(1, 101)], percent) == expected


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
