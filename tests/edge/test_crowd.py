"""Places at the bid listener while strangers take all of them."""

import resource
from contextlib import AsyncExitStack

from segments.runtime.descriptors import max_connections
from tests.edge.client import connected, request
from tests.edge.small_store import bid_request, eventually, serving
from tests.engines import Engine

PLACES = 10


async def test_newcomer_for_whom_there_is_no_place_is_told_to_come_again(valkey: Engine) -> None:
    async with serving(valkey.url) as service, AsyncExitStack() as taken:
        service.worker.site.max_connections = PLACES
        for _ in range(PLACES):
            client = await taken.enter_async_context(connected(service.port))
            assert (await client.post(bid_request())).outcome == "enriched"

        async with connected(service.port) as newcomer:
            newcomer.send(request(bid_request()))
            answer = await newcomer.answer()
            is_closed = await newcomer.is_closed()
        kept = await client.post(bid_request())

    assert (answer.status, answer.outcome) == (503, "shed")
    assert answer.error == "too_many_connections"
    assert answer.headers["retry-after"] == "1"
    assert is_closed
    assert kept.outcome == "enriched"


async def test_strangers_who_ask_nothing_lose_their_places_in_a_crowd(valkey: Engine) -> None:
    """
    A customer who is idle between two bids keeps its own.
    """
    async with serving(valkey.url) as service, AsyncExitStack() as taken:
        customer = await taken.enter_async_context(connected(service.port))
        first = await customer.post(bid_request())
        strangers = [
            await taken.enter_async_context(connected(service.port)) for _ in range(PLACES - 1)
        ]
        await eventually(lambda: len(service.worker.site.connections) == PLACES)
        service.worker.site.max_connections = PLACES

        closed = [await stranger.is_closed() for stranger in strangers]
        second = await customer.post(bid_request())

    assert all(closed)
    assert (first.outcome, second.outcome) == ("enriched", "enriched")


async def test_bodies_that_never_end_leave_room_for_those_that_do(valkey: Engine) -> None:
    whole = request(bid_request())
    dripping = request(b"x" * 250_000)[:-1]
    async with (
        serving(valkey.url, max_unfinished_bytes=1 << 20) as service,
        AsyncExitStack() as taken,
    ):
        strangers = []
        for number in range(8):
            strangers.append(await taken.enter_async_context(connected(service.port)))
            strangers[-1].send(dripping)
            held_bytes = min(number + 1, 4) * 250_000
            unfinished = service.worker.site.unfinished
            await eventually(lambda: unfinished.held_bytes >= held_bytes)  # noqa: B023 - awaited
        customer = await taken.enter_async_context(connected(service.port))
        customer.send(whole[:200])
        await eventually(lambda: len(unfinished) == 5)
        customer.send(whole[200:])
        answer = await customer.answer()
        refused = await strangers[0].answer()

    assert answer.outcome == "enriched"
    assert (refused.status, refused.outcome) == (503, "shed")
    assert refused.error == "too_many_unfinished"
    assert unfinished.held_bytes == 0


def test_places_leave_descriptors_for_everything_else() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1000, before[1]))
        many = max_connections()
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, before[1]))
        few = max_connections()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    assert (many, few) == (936, 236)
