"""
Closed connections leave nothing for the cyclic collector, which a worker runs seldom.

A worker kept a kilobyte of each connection that had ever been open, until a million others came.
"""

import gc
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from h2.connection import H2Connection

from rtb.server.http2.session import NewSession
from tests.edge.client import connected, request
from tests.edge.http2_client import connected2, serving_by
from tests.edge.http2_engines import ENGINES
from tests.edge.small_store import Service, bid_request, eventually
from tests.engines import Engine

MANY = 30


async def _idle(port: int) -> None:
    async with connected(port):
        pass


async def _answered(port: int) -> None:
    async with connected(port) as client:
        client.send(request(bid_request()))
        assert (await client.answer()).outcome == "enriched"


async def _refused(port: int) -> None:
    async with connected(port) as client:
        client.send(b"hello\r\n\r\n")
        assert (await client.answer()).status == 400


async def _amid_a_head(port: int) -> None:
    async with connected(port) as client:
        client.send(request(bid_request())[:40])
        await client.writer.drain()


async def _amid_a_body(port: int) -> None:
    async with connected(port) as client:
        client.send(request(bid_request())[:-40])
        await client.writer.drain()


async def _gone_before_the_answer(port: int) -> None:
    async with connected(port) as client:
        client.send(request(bid_request()))
        await client.writer.drain()


async def _answered_on_a_stream(port: int) -> None:
    async with connected2(port) as client:
        assert (await client.post(bid_request())).outcome == "enriched"


async def _amid_a_stream(port: int) -> None:
    async with connected2(port) as client:
        client.send_body(client.send_head(), bid_request()[:20], ends=False)
        client.flush()
        await client.writer.drain()


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.__name__)
@pytest.mark.parametrize(
    "client",
    [
        _idle,
        _answered,
        _refused,
        _amid_a_head,
        _amid_a_body,
        _gone_before_the_answer,
        _answered_on_a_stream,
        _amid_a_stream,
    ],
    ids=lambda client: client.__name__.strip("_"),
)
async def test_nothing_is_left_of_closed_connections(
    valkey: Engine, engine: NewSession, client: Callable[[int], Awaitable[None]]
) -> None:
    async with serving_by(engine, valkey) as service:
        await client(service.port)
        await _all_closed(service)
        gc.collect()
        before = _of_the_bid_path()
        gc.disable()
        try:
            for _ in range(MANY):
                await client(service.port)
            await _all_closed(service)
            left = _of_the_bid_path() - before
        finally:
            gc.enable()

    assert {kind: count for kind, count in left.items() if count >= MANY // 2} == {}


async def _all_closed(service: Service) -> None:
    await eventually(lambda: not service.worker.site.connections)


def _of_the_bid_path() -> Counter[str]:
    kinds = (type(each) for each in gc.get_objects())
    ours = (kind for kind in kinds if kind.__module__.startswith("rtb."))
    # h2's own objects reference each other, the client's and those of `HyperSession`.
    return Counter(kind.__qualname__ for kind in ours if not issubclass(kind, H2Connection))
