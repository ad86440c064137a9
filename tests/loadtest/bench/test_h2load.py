"""h2load counts answers and does not read them; their bytes are held against what is due."""

import os
from pathlib import Path

import pytest

from loadtest.artf.calls import PATH, framed
from loadtest.bench.checks import WrongAnswers
from loadtest.bench.h2load import Ask, Streams, cost_us
from loadtest.driver import Wrong
from loadtest.servers import Server
from tests.edge.client import ENRICH, connected
from tests.edge.small_store import MEMBER, OPTED_OUT, Service, bid_request, serving
from tests.edge.test_calls import call_of
from tests.engines import Engine

IN_JSON = bid_request()
BY_GRPC = framed(call_of())
ONE = Streams(1, 8)


async def _cost_us(service: Service, directory: Path, ask: Ask, streams: Streams = ONE) -> float:
    server = Server("ours", service.port, os.getpid())
    return await cost_us(server, ask, streams, count=100, directory=directory, warm_up=10)


@pytest.fixture
def enriched_bytes() -> int:
    """Of the message that answers `BY_GRPC`, in its frame."""
    return 5 + len(
        b"\x0a\x02r1" b"\x12\x25\x08\x01\x10\x01\x1a\x12/user/data/segment"
        b"\xa2\x06\x0a" b"\x0a\x03101" b"\x0a\x03102" b"\x1a\x08\x0a\x031.0\x12\x011"
    )  # fmt: skip


async def test_each_protocol_is_measured(
    valkey: Engine, tmp_path: Path, enriched_bytes: int
) -> None:
    async with serving(valkey.url, artf_recipient="dsp-a") as service:
        async with connected(service.port) as client:
            answer_bytes = len((await client.post(IN_JSON)).body)
        in_json = Ask(ENRICH, "application/json", IN_JSON, answer_bytes, 50)
        by_grpc = Ask(PATH, "application/grpc", BY_GRPC, enriched_bytes, 30)
        before = service.count("enriched")
        costs = [
            await _cost_us(service, tmp_path, ask, streams)
            for ask, streams in (
                (in_json, Streams(4, is_http1=True)),
                (in_json, ONE),
                (by_grpc, ONE),
                (by_grpc, Streams(2, 4)),
            )
        ]
        enriched = service.count("enriched") - before

    assert all(cost > 0 for cost in costs)
    assert enriched >= 4 * 110


@pytest.mark.parametrize(
    ("digest", "answer_bytes", "error"),
    [
        pytest.param(OPTED_OUT, None, WrongAnswers, id="without its segments"),
        pytest.param(MEMBER, 20, Wrong, id="longer than is due"),
    ],
)
async def test_answers_of_another_length_are_an_error(
    valkey: Engine,
    tmp_path: Path,
    enriched_bytes: int,
    digest: str,
    answer_bytes: int | None,
    error: type[Exception],
) -> None:
    due_bytes = enriched_bytes if answer_bytes is None else answer_bytes
    ask = Ask(PATH, "application/grpc", framed(call_of(digest)), due_bytes, 30)
    async with serving(valkey.url, artf_recipient="dsp-a") as service:
        with pytest.raises(error):
            await _cost_us(service, tmp_path, ask)


async def test_refusals_are_an_error(valkey: Engine, tmp_path: Path) -> None:
    ask = Ask("/nowhere", "application/json", IN_JSON, 100, 50)
    async with serving(valkey.url) as service:
        with pytest.raises(Wrong, match="failed"):
            await _cost_us(service, tmp_path, ask)
