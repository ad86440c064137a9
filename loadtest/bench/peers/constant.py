"""
The floor: our listener's own protocol without the bid path.

It reads each complete request, and sends a constant answer of the size of an enriched answer. The
difference to our service is the cost of the bid path.
"""

import argparse
import asyncio
import signal
from pathlib import Path

import uvloop

from rtb.server.http import http11
from rtb.server.http.protocol import Site
from rtb.server.http.request_heads import Head
from rtb.server.http.turn import Turn

_SWEEP_S = 0.25
_HEAD = http11.head_of(200, "enriched", media_type="application/json")


async def _serve(port: int, answer: bytes) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)

    class Constant(Turn):
        __slots__ = ()

        def begin(self, head: Head, body: bytes) -> None:
            self.answer(_HEAD, answer)

    site = Site(Constant)
    server = await loop.create_server(site.connection, "127.0.0.1", port)
    async with server:
        while not stopped.is_set():
            site.sweep(loop.time())
            try:
                await asyncio.wait_for(stopped.wait(), _SWEEP_S)
            except TimeoutError:
                continue


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--answer", type=Path, required=True, help="file with the answer's body")
    options = parser.parse_args()
    uvloop.run(_serve(options.port, options.answer.read_bytes()))


if __name__ == "__main__":
    main()
