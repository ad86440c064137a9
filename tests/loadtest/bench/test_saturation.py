"""wrk counts answers and not what they say; what it can tell is held against what is due."""

import os
import shutil
from pathlib import Path

import pytest

from loadtest.bench.saturation import saturate
from loadtest.driver import Wrong, ask
from loadtest.servers import Server
from tests.loadtest.test_driver import HIT, HOST, Reply, reply, serving

pytestmark = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")

CHECKED = 2
"""Requests before the load, whose answers are right."""


async def saturated(reply_to: Reply, directory: Path) -> float:
    async with serving(reply_to) as port:
        exchanges = await ask(HOST, port, [HIT] * CHECKED)
        server = Server("server", port, os.getpid())
        found = await saturate(server, exchanges, connections=4, seconds=1, directory=directory)
    assert 0 < found.busy <= 1.1
    return found.requests_per_s


async def test_answers_per_second_are_those_that_the_server_gave(tmp_path: Path) -> None:
    served = []

    def count(n: int) -> bytes:
        served.append(n)
        return reply()

    requests_per_s = await saturated(count, tmp_path)

    assert requests_per_s == pytest.approx(len(served), rel=0.2)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(reply(status="503 Service Unavailable"), id="an error"),
        pytest.param(reply("out_of_time", b"{}"), id="shorter than is due"),
    ],
)
async def test_server_that_fails_under_load_is_an_error(tmp_path: Path, wrong: bytes) -> None:
    with pytest.raises(Wrong):
        await saturated(lambda n: wrong if n > CHECKED else reply(), tmp_path)
