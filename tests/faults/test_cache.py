"""
What a worker keeps is not shown for opted-out persons, however late it hears of the opt-out.

A wire that holds the store's pushes back, and a worker that is stopped: both
would go on to answer from what they keep, were there no lease.
"""

import os
import signal
from typing import Any

from segments.model.identity import id_of_email_hash
from segments.model.record import EVERYONE, OptOut, OptOutAction
from segments.store.cache_lease import wait_out_leases
from segments.store.reader import read_meta
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from tests.edge.client import Client, connected, request
from tests.edge.processes import listening
from tests.edge.small_store import MEMBER, bid_request, eventually, furnish, serving
from tests.engines import Engine
from tests.faults.proxy import proxied

ROOM: dict[str, Any] = {"cache_bytes": 1_000_000}


async def say_no(engine: Engine, *, waits: bool = True) -> None:
    """Write an opt-out, and wait as whoever acknowledges it does."""
    async with connect(engine.url) as redis:
        writer = Writer(redis, await read_meta(redis))
        await writer.opt_out(
            [id_of_email_hash(MEMBER)], OptOut(EVERYONE, OptOutAction.RESTRICT), None
        )
        if waits:
            await wait_out_leases(redis)


async def warm_up(client: Client) -> None:
    """Bid until what the store said is kept, and then once more: the lease is fresh."""
    for _ in range(10):
        answer = await client.post(bid_request())
    assert answer.outcome == "enriched"


async def test_bid_before_the_acknowledgement_may_miss_a_change_that_is_on_its_way(
    engine: Engine,
) -> None:
    """
    This is why writers wait.
    """
    async with (
        proxied(int(engine.port)) as proxy,
        serving(proxy.url, **ROOM, cache_lease_ms=1000) as service,
        connected(service.port) as client,
    ):
        await warm_up(client)
        proxy.hold()
        await say_no(engine, waits=False)

        early = await client.post(bid_request())
        proxy.let_go()
        await eventually(lambda: _is_opted_out(client))

    assert early.outcome == "enriched"


async def test_bid_after_the_acknowledgement_never_does(engine: Engine) -> None:
    async with (
        proxied(int(engine.port)) as proxy,
        serving(proxy.url, **ROOM, cache_lease_ms=200) as service,
        connected(service.port) as client,
    ):
        await warm_up(client)
        proxy.hold()
        await say_no(engine)

        client.send(request(bid_request()))
        proxy.let_go()

        # Down, if all this took so long that the link was given up.
        assert (await client.answer()).outcome in {"opted_out", "store_down"}


async def _is_opted_out(client: Client) -> bool:
    return (await client.post(bid_request())).outcome == "opted_out"


async def test_worker_that_was_stopped_shows_nothing_that_it_kept(engine: Engine) -> None:
    async with connect(engine.url) as redis:
        await furnish(redis)
    async with listening(redis_url=engine.url, **ROOM, cache_lease_ms=200) as listener:
        await eventually(listener.is_ready)
        async with connected(listener.port) as client:
            await warm_up(client)
            [pid] = listener.workers()

            os.kill(pid, signal.SIGSTOP)
            try:
                await say_no(engine)
                client.send(request(bid_request()))
            finally:
                os.kill(pid, signal.SIGCONT)

            # Both lie in wait for it: the bid, and what the store has said.
            assert (await client.answer()).outcome == "opted_out"
