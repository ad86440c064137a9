"""Calls in an open loop, against a worker that is up, leaves, or ends."""

import asyncio
from typing import Any

import pytest

from loadtest.artf.calls import framed
from loadtest.call_loop import call_loop
from loadtest.open_loop import NotAnswered, Sample, steady_ns
from tests.edge.http2_client import serving_by
from tests.edge.http2_engines import ENGINES
from tests.edge.small_store import MEMBER, STRANGER, eventually, serving
from tests.edge.test_calls import call_of
from tests.engines import Engine

CALLS = [framed(call_of(digest)) for digest in (MEMBER, STRANGER)]
OUTCOMES = [b"enriched", b"no_match"]
LATE = b"out_of_time"
"""Of a busy machine: a call has its 100 ms."""


async def _driven(port: int, rate_per_s: float, count: int) -> list[Sample[bytes]]:
    due_ns = steady_ns(rate_per_s, count)
    return await asyncio.to_thread(call_loop, ("127.0.0.1", port), CALLS, due_ns=due_ns)


@pytest.mark.parametrize("engine", ENGINES)
async def test_every_call_is_answered_while_connections_come_to_their_age(
    valkey: Engine, engine: Any
) -> None:
    async with serving_by(engine, valkey, artf_recipient="dsp-a", h2_max_age_s=0.2) as service:
        samples = await _driven(service.port, 200, 500)

    assert len(samples) == 500
    for sample in samples:
        assert sample.answer is not None
        assert b"r1" in sample.answer
        assert b"grpc-status: 0" in sample.answer
        assert OUTCOMES[sample.request] in sample.answer or LATE in sample.answer
        assert sample.latency_ns >= sample.held_up_ns >= 0


async def test_call_whose_connection_ends_has_no_answer_and_the_next_has_one(
    valkey: Engine,
) -> None:
    async with serving(valkey.url, artf_recipient="dsp-a") as service:
        driven = asyncio.create_task(_driven(service.port, 100, 150))
        await eventually(lambda: service.count("enriched") > 10)
        valkey.freeze()
        try:
            await eventually(lambda: service.worker.bids.in_flight > 3)
            lost = service.worker.bids.in_flight
            for guest in tuple(service.worker.site.connections):
                connection: Any = guest
                connection.abort()
        finally:
            valkey.thaw()
        samples = await driven

    unanswered = [sample for sample in samples if sample.answer is None]
    assert 0 < lost <= len(unanswered) < 100
    assert len(samples) == 150


async def test_nobody_there_is_an_error(valkey: Engine) -> None:
    async with serving(valkey.url) as service:
        port = service.port
    with pytest.raises(NotAnswered, match="ConnectionRefusedError"):
        await _driven(port, 100, 1)
