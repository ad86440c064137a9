"""
Latency at a given rate, as the bench compares it: an open loop over answers that are known.

What each request is answered was judged before the clock started (`loadtest.bench.checks`), so
under load an answer costs the comparison of `loadtest.driver.is_late`, and only how long
it took is kept. A request costs the driver about what it costs `loadtest.driver`; the
floor, measured at the same rate, says how much of a latency is the driver's and the
kernel's.
"""

from collections.abc import Sequence
from typing import NamedTuple

from loadtest.driver import Exchange, Wrong, is_late
from loadtest.open_loop import open_loop
from loadtest.percentile import percentile

_NS_PER_MS = 1_000_000


class Latencies(NamedTuple):
    """What a run came to: milliseconds in rising order, and how many answers were late."""

    ms: list[float]
    late: int

    def percentile(self, percent: float) -> float:
        """Return the least latency that so many percent of the requests did not exceed."""
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
        host: Where the server listens.
        port: Likewise.
        exchanges: What to send in turn, and how it is answered.
        connections: Kept alive; one request in flight on each.
        due_ns: When each request is due, from the start, rising.

    Raises:
        Wrong: An answer differs from the one expected, or a connection ended
            with a request in flight.
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
