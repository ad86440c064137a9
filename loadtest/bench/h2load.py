"""
The cost of a bid, repeated by `h2load` over HTTP/1.1, HTTP/2 and gRPC.

h2load (Debian's nghttp2-client) costs only a few microseconds a request. It does not read answers:
bytes of bodies are compared with expected ones, since a late answer lacks its segments.
"""

import asyncio
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from loadtest.bench.checks import WrongAnswers
from loadtest.bench.costs import MAX_LATE, TRIES, say
from loadtest.driver import Wrong
from loadtest.servers import HOST, Server

_WARM_UP = 2_000
_COUNTS = re.compile(r"^requests: .* (\d+) succeeded, (\d+) failed", re.MULTILINE)
_DATA = re.compile(r"^traffic: .*\((\d+)\) data$", re.MULTILINE)


class Ask(NamedTuple):
    """A bid as it is sent, and the expected answer."""

    path: str
    content_type: str
    body: bytes | None
    """`None`: a GET."""
    answer_bytes: int
    """Of the body of an enriched answer."""
    added_bytes: int
    """Of these, the bytes that a late answer lacks."""


class Streams(NamedTuple):
    """How requests are sent."""

    connections: int
    streams: int = 1
    """In flight on each connection."""
    is_http1: bool = False


def is_possible() -> bool:
    """Tell whether h2load is installed."""
    return shutil.which("h2load") is not None


async def cost_us(
    server: Server,
    ask: Ask,
    streams: Streams,
    *,
    count: int,
    directory: Path,
    warm_up: int = _WARM_UP,
) -> float:
    """
    Return the CPU microseconds of the server for each request, after `warm_up` requests.

    h2load runs on this thread's CPU; `directory` takes the file of the body.

    Raises:
        WrongAnswers: Too many answers were late in every try.
        Wrong: An answer failed, or was longer than expected.
    """
    body = None if ask.body is None else directory / "body"
    if body is not None and ask.body is not None:
        body.write_bytes(ask.body)
    await _load(server, ask, streams, warm_up, body)
    for _ in range(TRIES):
        before_s = server.cpu_s()
        late = await _load(server, ask, streams, count, body)
        after_s = server.cpu_s()
        if late <= count * MAX_LATE:
            return (after_s - before_s) / count * 1e6
        say(f"{server.name}: some {late:,.0f} of {count:,} answers were late; once more")
    raise WrongAnswers(f"{server.name}: too many late answers in {TRIES} rounds")


async def _load(server: Server, ask: Ask, streams: Streams, count: int, body: Path | None) -> float:
    """Send requests; return the approximate number of late answers."""
    argv = [
        *(f"-n{count}", f"-c{streams.connections}", f"-m{streams.streams}"),
        *(() if body is None else (f"-d{body}",)),
        *("-H", f"content-type: {ask.content_type}", "-H", "te: trailers"),
        *(("--h1",) if streams.is_http1 else ()),
        f"http://{HOST}:{server.port}{ask.path}",
    ]
    h2load = await asyncio.create_subprocess_exec("h2load", *argv, stdout=asyncio.subprocess.PIPE)
    said = (await h2load.communicate())[0].decode()
    counts, data = _COUNTS.search(said), _DATA.search(said)
    if counts is None or data is None:
        raise Wrong(f"h2load ended with status {h2load.returncode} and without its counts")
    succeeded, failed = map(int, counts.groups())
    if failed or succeeded != count:
        raise Wrong(f"{server.name}: {count - succeeded} of {count} answers under h2load failed")
    missing_bytes = count * ask.answer_bytes - int(data[1])
    if missing_bytes < 0:
        raise Wrong(f"{server.name}: answers under h2load were longer than is due")
    return missing_bytes / ask.added_bytes
