"""
Requests per second at saturation, by `wrk`.

Why not by our own driver: on one core beside the store it comes to some 16,000
requests/s, and ours and Go's fasthttp answer more than that; their core was idle
for a third of the time, so what was counted was the driver. `wrk` sends 60,000
and more. It checks less, therefore `busy` says how much of its core the server
had, and the bytes that came back are held against the answers that are due: a
request that passes through late is shorter by its segments.
"""

import asyncio
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from loadtest.driver import Exchange, Wrong
from loadtest.servers import HOST, Server

_SCRIPT = Path(__file__).with_suffix(".lua")
_COUNTS = re.compile(r"^saturation (\d+) (\d+) (\d+) (\d+)$", re.MULTILINE)
_BYTES_WITHIN = 0.002
"""Answers of 3 KB lose 200 bytes with their segments: 3 % of them would show."""


class Saturation(NamedTuple):
    """What a server came to under as much as it takes."""

    requests_per_s: float
    busy: float
    """Share of the time in which the answering process had a CPU."""


def is_possible() -> bool:
    """Say whether `wrk` is installed."""
    return shutil.which("wrk") is not None


async def saturate(
    server: Server,
    exchanges: Sequence[Exchange],
    *,
    connections: int,
    seconds: int,
    directory: Path,
) -> Saturation:
    """
    Send as much as is answered, on so many connections.

    Args:
        server: Running; it is asked from the CPU that this thread is pinned to.
        exchanges: What to send in turn, and how it is answered.
        connections: Kept alive; one request in flight on each.
        seconds: How long.
        directory: For the file of requests.

    Raises:
        Wrong: An answer was no 2xx, or they have not the length of those due.
    """
    requests = directory / "requests.http"
    requests.write_bytes(b"".join(b"%d\n%b" % (len(e.sent), e.sent) for e in exchanges))
    argv = [
        *("-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(_SCRIPT)),
        *(f"http://{HOST}:{server.port}/", "--", str(requests)),
    ]
    before_s = server.cpu_s()
    wrk = await asyncio.create_subprocess_exec("wrk", *argv, stdout=asyncio.subprocess.PIPE)
    said, _ = await wrk.communicate()
    cpu_s = server.cpu_s() - before_s
    counts = _COUNTS.search(said.decode())
    if counts is None:
        raise Wrong(f"wrk ended with status {wrk.returncode} and without its counts")
    answered, duration_us, received_bytes, failed = map(int, counts.groups())
    if failed or not answered:
        raise Wrong(f"{server.name}: {failed} of {answered} answers under wrk failed")
    due_bytes = sum(e.received_bytes for e in exchanges) / len(exchanges)
    if abs(received_bytes / answered / due_bytes - 1) > _BYTES_WITHIN:
        raise Wrong(
            f"{server.name}: {received_bytes / answered:.0f} bytes an answer under wrk, where"
            f" {due_bytes:.0f} are due"
        )
    taken_s = duration_us / 1e6
    return Saturation(answered / taken_s, cpu_s / taken_s)
