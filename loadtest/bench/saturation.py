"""
Requests per second at saturation, by `wrk`.

Driver and store share a core, which must not saturate. CPU microseconds a request, amid other work:
24 our own driver and 20 `wrk`; the store 8 for ours, which looks up many persons at once, and 15 to
20 for Go and nginx; on the other core 54 ours, 52 to 65 Go's fasthttp, 85 to 100 nginx. So either
driver outruns every server, but not the floor. `busy` is a server's share of its core; an
unsaturated server's figure is the driver's.

`wrk` does not read answers, so received bytes are compared with expected ones: late answers are
shorter.
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
    """The results of a server at saturation."""

    requests_per_s: float
    busy: float
    """Share of the time in which the answering process had a CPU."""

    @property
    def cpu_us(self) -> float:
        """CPU microseconds per request: less than at rest, by batching."""
        return self.busy / self.requests_per_s * 1e6


def is_possible() -> bool:
    """Tell whether `wrk` is installed."""
    return shutil.which("wrk") is not None


async def saturate(
    server: Server,
    exchanges: Sequence[Exchange],
    *,
    connections: int,
    seconds: int,
    directory: Path,
    scheme: str = "http",
) -> Saturation:
    """
    Send requests as fast as they are answered, on several connections.

    Args:
        server: Running; the driver runs on this thread's CPU.
        exchanges: Requests to send in turn, with their answers.
        connections: Kept alive; a single request in flight on each.
        seconds: The duration.
        directory: For the file of requests.
        scheme: `http` or `https`, whose certificate is not checked.

    Raises:
        Wrong: An answer was no 2xx, or their mean length is not as expected.
    """
    requests = directory / "requests.http"
    requests.write_bytes(b"".join(b"%d\n%b" % (len(e.sent), e.sent) for e in exchanges))
    argv = [
        *("-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(_SCRIPT)),
        *(f"{scheme}://{HOST}:{server.port}/", "--", str(requests)),
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
    in_flight_bytes = connections * due_bytes  # received in part, and not counted as answered
    if abs(received_bytes - answered * due_bytes) > (
        _BYTES_WITHIN * answered * due_bytes + in_flight_bytes
    ):
        raise Wrong(
            f"{server.name}: {received_bytes / answered:.0f} bytes an answer under wrk, where"
            f" {due_bytes:.0f} are due"
        )
    taken_s = duration_us / 1e6
    return Saturation(answered / taken_s, cpu_s / taken_s)
