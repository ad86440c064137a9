"""
Latency at a given rate for the bench: an open loop over known answers.

Answers were judged before (`loadtest.bench.checks`), so under load each costs only
`loadtest.driver.is_late`. The floor shows the latency of driver and kernel.
"""

from collections.abc import Sequence
from typing import NamedTuple

from loadtest.driver import Exchange, Wrong, is_late
from loadtest.open_loop import open_loop
from loadtest.percentile import percentile

_NS_PER_MS = 1_000_000


class Latencies(NamedTuple):
    """The results of a run: milliseconds, ascending, and the number of late answers."""

    ms: list[float]
    late: int

    def percentile(self, percent: float) -> float:
        """Return the least latency that this percentage of requests did not exceed."""
        return percentile(self.ms, percent)


def latencies(
    host: str,
    port: int,
    exchanges: Sequence[Exchange],
    *,
    connections: int,
    due_ns: Sequence[int],
) -> Latencies:
    """
    Send requests when they are due, and wait for all answers; blocks the thread.

    Args:
        host: The server's.
        port: The server's.
        exchanges: Requests to send in turn, with their answers.
        connections: Kept alive; a single request in flight on each.
        due_ns: From the start, ascending.

    Raises:
        Wrong: An answer is not as expected, or a connection ended with a request in
            flight.
        loadtest.open_loop.NotAnswered: See there.
    """
    samples = open_loop(
        (host, port),
        [exchange.sent for exchange in exchanges],
        due_ns=due_ns,
        connections=connections,
        read=lambda request, received: is_late(received, exchanges[request].answer),
    )
    if any(sample.answer is None for sample in samples):
        raise Wrong("the server closed a connection with a request in flight")
    return Latencies(
        sorted(sample.latency_ns / _NS_PER_MS for sample in samples),
        sum(sample.answer is True for sample in samples),
    )
