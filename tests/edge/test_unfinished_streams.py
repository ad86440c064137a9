"""Requests over HTTP/2 that never end, on many connections: one budget for all, as HTTP/1.1's."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial

import grpc
import pytest

from tests.artf.host import SERVICES
from tests.edge.client import connected, request
from tests.edge.http2_client import Http2Client, connected2, serving_by
from tests.edge.http2_engines import ENGINES
from tests.edge.small_store import Service, bid_request, eventually
from tests.engines import Engine

Serving = Callable[..., AbstractAsyncContextManager[Service]]

BUDGET = 1 << 20
BODY = b"x" * 60_000
"""A client's first window lets it send that much at once."""
FIT = BUDGET // len(BODY)


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.__name__)
def serving2(request: pytest.FixtureRequest, valkey: Engine) -> Serving:
    """A worker with a small budget that speaks HTTP/2 by one of the engines."""
    return partial(serving_by, request.param, valkey, max_unfinished_bytes=BUDGET)


def drip(client: Http2Client, **head: str) -> int:
    """Send all of a request but its end."""
    stream = client.send_head(**head)  # type: ignore[arg-type] # the other arguments are kept
    client.send_body(stream, BODY, ends=False)
    client.flush()
    return stream


async def test_streams_that_never_end_leave_room_for_requests_that_do(serving2: Serving) -> None:
    """The oldest goes first, whichever version of HTTP it speaks, and other streams stay."""
    async with serving2() as service, AsyncExitStack() as taken:
        unfinished = service.worker.site.unfinished
        first = await taken.enter_async_context(connected(service.port))
        first.send(request(BODY)[:-1])
        await eventually(lambda: unfinished.held_bytes >= len(BODY) - 1)
        clients, streams = [], []
        for number in range(FIT + 1):
            client = await taken.enter_async_context(connected2(service.port))
            clients.append(client)
            streams.append(drip(client))
            held_bytes = min(number + 2, FIT) * len(BODY)
            await eventually(lambda: unfinished.held_bytes >= held_bytes)  # noqa: B023 - awaited
        most_bytes = unfinished.held_bytes
        refused = [await first.answer(), await clients[0].answer(streams[0])]
        other = await clients[0].post(bid_request())
        customer = await taken.enter_async_context(connected2(service.port))
        whole = bid_request()
        stream = customer.send_head()
        customer.send_body(stream, whole[:100], ends=False)
        customer.flush()
        await eventually(lambda: len(unfinished) == FIT)
        customer.send_body(stream, whole[100:])
        customer.flush()
        answer = await customer.answer(stream)
    await eventually(lambda: unfinished.held_bytes == 0)

    assert most_bytes <= BUDGET
    assert [(one.status, one.error) for one in refused] == [(503, "too_many_unfinished")] * 2
    assert refused[1].outcome == "shed"
    assert (other.outcome, answer.outcome) == ("enriched", "enriched")
    assert len(unfinished) == 0


async def test_heads_without_their_bodies_count_too(serving2: Serving) -> None:
    """A field that was sent once costs a byte when it is repeated, and all its size here."""
    padding = [("x-padding", "x" * 3_900)] * 3
    async with serving2() as service, connected2(service.port) as client:
        streams = [client.send_head(extra=padding) for _ in range(100)]
        client.flush()
        first = await client.answer(streams[0])
        unfinished = service.worker.site.unfinished
        await eventually(lambda: len(unfinished) > 0)
        held_bytes, kept = unfinished.held_bytes, len(unfinished)
        client.send_body(streams[-1], bid_request())
        client.flush()
        last = await client.answer(streams[-1])

    assert (first.status, first.error) == (503, "too_many_unfinished")
    assert kept * 11_700 < held_bytes <= BUDGET
    assert last.status == 200


async def test_calls_that_never_end_are_refused_in_the_status_of_calls(serving2: Serving) -> None:
    head = {"path": SERVICES, "content_type": "application/grpc"}
    async with (
        serving2(artf_recipient="dsp-a") as service,
        connected2(service.port) as first,
        AsyncExitStack() as taken,
    ):
        stream = drip(first, **head)
        await eventually(lambda: service.worker.site.unfinished.held_bytes >= len(BODY))
        for _ in range(FIT):
            drip(await taken.enter_async_context(connected2(service.port)), **head)
        exchange = first.exchanges[stream]
        await first.until(lambda: exchange.is_ended)

    assert exchange.fields[":status"] == "200"
    assert exchange.fields["grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    assert exchange.fields["grpc-message"] == "too_many_unfinished"


async def test_stream_that_its_client_resets_frees_its_bytes(serving2: Serving) -> None:
    async with serving2() as service, connected2(service.port) as client:
        unfinished = service.worker.site.unfinished
        stream = drip(client)
        await eventually(lambda: unfinished.held_bytes >= len(BODY))
        client.h2.reset_stream(stream)
        client.flush()
        await eventually(lambda: unfinished.held_bytes == 0)

    assert len(unfinished) == 0
