"""
CPU time per request of the answering process, by the kernel's accounting.

A closed loop that checks every answer. Late requests cost less, so a round with more than
`MAX_LATE` does not count.
"""

import sys
from collections.abc import Sequence

from loadtest.bench.checks import WrongAnswers
from loadtest.driver import Exchange, drive
from loadtest.servers import HOST, Server

MAX_LATE = 0.01
TRIES = 5
_WARM_UP = 2_000


async def cost_us(
    server: Server, exchanges: Sequence[Exchange], *, connections: int, count: int
) -> float:
    """
    Return the CPU microseconds per request, after a warm-up.

    Raises:
        WrongAnswers: Too many answers were late in every try.
        loadtest.driver.Wrong: An answer is not as expected.
    """
    await drive(HOST, server.port, exchanges, connections=connections, count=_WARM_UP)
    for _ in range(TRIES):
        before_s = server.cpu_s()
        late = await drive(HOST, server.port, exchanges, connections=connections, count=count)
        after_s = server.cpu_s()
        if late <= count * MAX_LATE:
            return (after_s - before_s) / count * 1e6
        say(f"{server.name}: {late:,} of {count:,} answers were late; once more")
    raise WrongAnswers(f"{server.name}: too many late answers in {TRIES} rounds")


def say(line: str) -> None:
    """Print progress to standard error."""
    print(line, file=sys.stderr, flush=True)
