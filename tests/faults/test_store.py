"""What the store can do to us: each ends in its outcome for the requests concerned, no other."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from rtb.lookup.link import LookupFault
from rtb.server.bids import Bid
from rtb.server.metrics import layout
from segments.model.identity import id_of_email_hash
from segments.store import keys
from segments.store.reader import read_meta
from segments.store.servers.connection import connect
from tests.edge.client import Client, connected, request
from tests.edge.small_store import (
    MEMBER,
    OPTED_OUT,
    STRANGER,
    Service,
    bid_request,
    caught_up,
    eventually,
    furnish,
    serving,
    started,
)
from tests.engines import Engine
from tests.faults.proxy import Proxy, proxied


@asynccontextmanager
async def behind_proxy(engine: Engine, **settings: float) -> AsyncIterator[tuple[Service, Proxy]]:
    async with proxied(int(engine.port)) as proxy, serving(proxy.url, **settings) as service:
        yield service, proxy


async def heals(client: Client) -> bool:
    return (await client.post(bid_request())).outcome == "enriched"


def faults(service: Service, fault: LookupFault) -> int:
    cell = layout.STORE_FAULTS + layout.FAULTS.index(fault)
    return int(service.counters.cells[cell])


async def test_restarted_store_is_found_again_with_its_opt_outs(engine: Engine) -> None:
    async with serving(engine.url) as service, connected(service.port) as client:
        engine.restart()
        async with connect(engine.url) as redis:
            await caught_up(redis)
        await eventually(lambda: heals(client))
        opted_out = await client.post(bid_request(OPTED_OUT))

    assert opted_out.outcome == "opted_out"


async def test_restarted_store_is_not_trusted_before_it_has_caught_up(engine: Engine) -> None:
    """
    An opt-out may have come while it was down, and waits in the ledger.
    """
    async with serving(engine.url) as service, connected(service.port) as client:
        engine.restart()
        await eventually(lambda: service.worker.bids.lookup.fault is LookupFault.UNUSABLE)
        before = await client.post(bid_request())
        said = service.worker.bids.lookup.message
        async with connect(engine.url) as redis:
            await caught_up(redis)
        await eventually(lambda: heals(client))

    assert before.outcome == "store_down"
    assert "started anew" in said


async def test_requests_on_the_wire_when_the_link_is_lost_go_through_and_the_next_is_enriched(
    engine: Engine,
) -> None:
    async with behind_proxy(engine) as (service, proxy), connected(service.port) as client:
        proxy.hold()
        client.send(request(bid_request()) * 5)
        await eventually(lambda: service.worker.bids.in_flight == 5)
        proxy.cut()
        answers = [await client.answer() for _ in range(5)]
        lost = faults(service, LookupFault.LOST)
        proxy.let_go()
        await eventually(lambda: heals(client))

    assert [answer.outcome for answer in answers] == ["store_down"] * 5
    assert all(answer.body == bid_request() for answer in answers)
    assert lost == 5


async def test_store_that_refuses_connections_is_tried_until_it_takes_one(engine: Engine) -> None:
    async with behind_proxy(engine) as (service, proxy), connected(service.port) as client:
        proxy.is_refusing = True
        proxy.cut()
        await eventually(lambda: not service.is_up)
        down = await client.post(bid_request())
        proxy.is_refusing = False
        await eventually(lambda: heals(client))

    assert (down.outcome, down.body) == ("store_down", bid_request())


async def test_stalled_store_ends_requests_by_their_deadline_and_then_the_link(
    engine: Engine,
) -> None:
    async with (
        serving(engine.url, deadline_cap_ms=20) as service,
        connected(service.port) as client,
    ):
        engine.freeze()
        first = await client.post(bid_request())
        await eventually(lambda: not service.is_up)
        later = await client.post(bid_request())
        engine.thaw()
        await eventually(lambda: heals(client))

        assert (first.outcome, later.outcome) == ("out_of_time", "store_down")
        assert service.worker.bids.in_flight == 0


async def test_bids_behind_a_late_bid_pass_at_once_while_the_store_is_silent(
    engine: Engine,
) -> None:
    """
    Each would wait its time, and the next on its connection as much again.
    """
    async with (
        serving(engine.url, deadline_cap_ms=50) as service,
        connected(service.port) as client,
    ):
        engine.freeze()
        answers = [await client.post(bid_request()) for _ in range(10)]
        stalled = faults(service, LookupFault.STALLED)
        is_up = service.is_up
        engine.thaw()
        await eventually(lambda: heals(client))

    # The link's own probe takes longer: it has not been torn down meanwhile.
    assert is_up
    outcomes = [answer.outcome for answer in answers]
    # The first deadline may pass just before the silence is as long as a deadline.
    assert outcomes[0] == "out_of_time"
    assert outcomes[2:] == ["store_down"] * 8
    assert outcomes.count("store_down") == stalled
    assert all(answer.body == bid_request() for answer in answers)


async def test_answered_bids_are_kept_no_longer_than_any_waits(engine: Engine) -> None:
    """
    Their timer would wake an idle process, and their memory stay until then.
    """
    async with (
        serving(engine.url, deadline_cap_ms=60_000) as service,
        connected(service.port) as client,
    ):
        answer = await client.post(bid_request())

        assert answer.outcome == "enriched"
        assert not any(isinstance(each, Bid) for each in gc.get_objects())
        assert service.worker.bids.in_flight == 0


async def test_late_reply_finds_nobody_and_answers_no_other_request(engine: Engine) -> None:
    """
    The reply for a member comes when a stranger's request waits on the same connection.
    """
    async with behind_proxy(engine) as (service, proxy), connected(service.port) as client:
        proxy.hold()
        late = await client.post(bid_request(MEMBER, tmax=20))
        client.send(request(bid_request(STRANGER)))
        await eventually(lambda: service.worker.bids.in_flight == 1)
        proxy.let_go()
        stranger = await client.answer()

    assert late.outcome == "out_of_time"
    assert (stranger.outcome, stranger.body) == ("no_match", bid_request(STRANGER))


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"!!! no reply of any protocol\r\n", id="no protocol"),
        pytest.param(b"$-1\r\n" * 50, id="more replies than questions"),
        pytest.param(b"$9999999999999999999999\r\n", id="an impossible length"),
    ],
)
async def test_reply_that_cannot_be_decoded_ends_the_link_and_it_heals(
    engine: Engine, reply: bytes
) -> None:
    async with behind_proxy(engine) as (service, proxy), connected(service.port) as client:
        proxy.hold()
        client.send(request(bid_request()) * 3)
        await eventually(lambda: service.worker.bids.in_flight == 3)
        proxy.say(reply)
        answers = [await client.answer() for _ in range(3)]
        proxy.let_go()
        await eventually(lambda: heals(client))

        assert {answer.outcome for answer in answers} <= {"store_down", "no_match"}
        assert all(answer.body == bid_request() for answer in answers)
        assert service.counters.cells[layout.BUGS] == 0


async def test_key_of_the_wrong_type_is_the_fault_of_who_asks_for_it(
    engine: Engine, redis_client: Redis
) -> None:
    async with serving(engine.url) as service, connected(service.port) as client:
        bits = (await read_meta(redis_client)).bucket_bits
        bucket = keys.bucket_of(id_of_email_hash(STRANGER), bits)
        await redis_client.set(keys.bucket_key(bucket), b"not a hash")
        client.send(
            request(bid_request()) + request(bid_request(STRANGER)) + request(bid_request())
        )
        answers = [await client.answer() for _ in range(3)]

        assert [answer.outcome for answer in answers] == ["enriched", "store_down", "enriched"]
        assert answers[1].body == bid_request(STRANGER)
        assert faults(service, LookupFault.BAD_REPLY) == 1
        assert service.is_up


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(b"layout", b"2", id="another layout"),
        pytest.param(b"bucket_bits", b"many", id="unreadable"),
    ],
)
async def test_store_of_another_layout_is_not_read(
    engine: Engine, redis_client: Redis, field: bytes, value: bytes
) -> None:
    await furnish(redis_client)
    right = await redis_client.hget(keys.META.decode(), field.decode())
    assert right is not None
    await redis_client.hset(keys.META, field, value)

    async with started(engine.url) as service, connected(service.port) as client:
        await eventually(lambda: service.worker.bids.lookup.fault is LookupFault.UNUSABLE)
        refused = await client.post(bid_request())
        await redis_client.hset(keys.META, field, right)
        await eventually(lambda: heals(client))

    assert (refused.outcome, refused.body) == ("store_down", bid_request())


async def test_store_emptied_under_us_is_trusted_again_only_once_it_is_laid_out(
    engine: Engine, redis_client: Redis
) -> None:
    """
    An emptied store has lost its opt-outs: what is loaded first must not be shown.
    """
    async with serving(engine.url) as service, connected(service.port) as client:
        await redis_client.flushall()
        await eventually(lambda: service.worker.bids.lookup.fault is LookupFault.UNUSABLE)
        emptied = await client.post(bid_request())
        await furnish(redis_client)
        await eventually(lambda: heals(client))

    assert emptied.outcome == "store_down"


async def test_store_that_still_loads_lets_requests_through(engine: Engine) -> None:
    async with behind_proxy(engine) as (service, proxy), connected(service.port) as client:
        proxy.hold()
        # What a server says that has been restarted and reads its data: to the
        # lookup first, to the next probe then.
        client.send(request(bid_request()))
        await eventually(lambda: service.worker.bids.in_flight == 1)
        proxy.say(b"-LOADING Redis is loading the dataset in memory\r\n" * 2)
        answer = await client.answer()
        proxy.cut()
        proxy.let_go()
        await eventually(lambda: heals(client))

    assert (answer.outcome, answer.body) == ("store_down", bid_request())


async def test_worker_that_starts_before_its_store_waits_for_it(engine: Engine) -> None:
    engine.stop()

    async with started(engine.url) as service, connected(service.port) as client:
        before = await client.post(bid_request())
        engine.start()
        async with connect(engine.url) as redis:
            await furnish(redis)
        await eventually(lambda: heals(client))

    assert before.outcome == "store_down"


async def test_bug_in_a_callback_does_not_break_the_link(valkey: Engine) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("a bug")

    async with serving(valkey.url) as service, connected(service.port) as client:
        lookup = service.worker.bids.lookup
        lookup.ask((id_of_email_hash(MEMBER),), broken)
        answer = await client.post(bid_request())
        cell = layout.BUGS + tuple(layout.Where).index(layout.Where.LOOKUP)

        assert answer.outcome == "enriched"
        assert service.counters.cells[cell] == 1
