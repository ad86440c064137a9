"""Every ending of a bid request, through a real socket and a real store."""

import json

import pytest
from redis.asyncio import Redis

from rtb.outcome import Outcome
from rtb.pipeline import Result
from rtb.server.metrics.layout import OUTCOMES
from segments.model.identity import id_of_email_hash
from segments.store import keys
from segments.store.meta import prepare
from segments.store.reader import read_meta
from segments.store.servers.connection import connect
from tests.edge.client import ENRICH, Client, connected, request
from tests.edge.small_store import (
    EXPECTED_IDS,
    MEMBER,
    OPTED_OUT,
    SHOP_DATA,
    STRANGER,
    added_data,
    bid_request,
    caught_up,
    eventually,
    publish,
    serving,
    started,
)
from tests.engines import Engine


async def test_member_is_enriched_and_all_else_left_byte_for_byte(engine: Engine) -> None:
    body = bid_request()

    async with serving(engine.url) as service, connected(service.port) as client:
        answer = await client.post(body)

    assert (answer.status, answer.outcome) == (200, "enriched")
    assert added_data(answer.body) == [SHOP_DATA]
    ours = b',"data":' + json.dumps([SHOP_DATA], separators=(",", ":")).encode()
    assert answer.body.replace(ours, b"") == body


@pytest.mark.parametrize(
    "change",
    [
        pytest.param((b"{", rb'{"app": {"name": "Puzzle \ud83d"}, '), id="half an emoji"),
        pytest.param((b"{", b"\xef\xbb\xbf{"), id="a byte order mark"),
        pytest.param((b"{", b'{"tmax": 1e400, '), id="a tmax that no double holds"),
        pytest.param((b"{", b'{"tmax": ' + b"9" * 400 + b", "), id="a tmax of 400 digits"),
        pytest.param((b"{", b'{"tmax": -' + b"9" * 400 + b", "), id="one below zero"),
        pytest.param((b"{", b'{"tmax": ' + b"9" * 5_000 + b", "), id="one of 5,000"),
        pytest.param((b"{", b'{"device": {"h": 1e400}, "x": -1e400, '), id="any number"),
    ],
)
async def test_json_that_the_grammar_allows_is_enriched(
    valkey: Engine, change: tuple[bytes, bytes]
) -> None:
    body = bid_request().replace(*change, 1)

    async with serving(valkey.url) as service, connected(service.port) as client:
        answer = await client.post(body)

    assert answer.outcome == "enriched"
    ours = b',"data":' + json.dumps([SHOP_DATA], separators=(",", ":")).encode()
    assert answer.body.replace(ours, b"") == body


@pytest.mark.parametrize(
    ("body", "path", "outcome"),
    [
        pytest.param(bid_request(None), ENRICH, "no_identity", id="no id"),
        pytest.param(bid_request(STRANGER), ENRICH, "no_match", id="unknown id"),
        pytest.param(bid_request(OPTED_OUT), ENRICH, "opted_out", id="opted out"),
        pytest.param(bid_request(regs={"coppa": 1}), ENRICH, "no_consent", id="a child"),
        pytest.param(
            bid_request(), "/openrtb2/enrich/dsp-without-grants", "no_match", id="no grant"
        ),
        pytest.param(bid_request(), "/openrtb2/enrich/dsp-held-out", "held_out", id="held out"),
    ],
)
async def test_unenriched_request_leaves_byte_for_byte(
    engine: Engine, body: bytes, path: str, outcome: str
) -> None:
    async with serving(engine.url) as service, connected(service.port) as client:
        answer = await client.post(body, path)

    assert (answer.status, answer.outcome, answer.body) == (200, outcome, body)


async def test_silent_store_costs_the_request_its_segments_and_not_its_time(
    engine: Engine,
) -> None:
    body = bid_request(tmax=100)

    async with serving(engine.url, tmax_share=0.1) as service, connected(service.port) as client:
        engine.freeze()
        answer = await client.post(body)
        engine.thaw()

        assert (answer.outcome, answer.body) == ("out_of_time", body)
        assert service.count("out_of_time") == 1
        assert service.worker.bids.in_flight == 0


async def test_stopped_store_lets_requests_through(engine: Engine) -> None:
    body = bid_request()

    async with serving(engine.url) as service, connected(service.port) as client:
        engine.stop()
        await eventually(lambda: not service.is_up)
        answer = await client.post(body)

    assert (answer.outcome, answer.body) == ("store_down", body)


async def test_more_in_flight_than_allowed_are_shed(engine: Engine) -> None:
    body = bid_request()

    async with (
        serving(engine.url, max_in_flight=1) as service,
        connected(service.port) as first,
        connected(service.port) as second,
    ):
        engine.freeze()
        first.send(request(body))
        await eventually(lambda: service.worker.bids.in_flight == 1)
        shed = await second.post(body)
        engine.thaw()
        kept = await first.answer()

    assert (shed.outcome, shed.body) == ("shed", body)
    assert kept.outcome == "enriched"


async def test_stripped_fields_leave_no_request_whatever_its_outcome(engine: Engine) -> None:
    body = b'{"id":"1","user":{"ext":{"hashes":{"email":"%b"},"x":1}}}' % MEMBER.encode()
    stripped = b'{"id":"1","user":{"ext":{"x":1}}}'

    async with (
        serving(engine.url, max_in_flight=1) as service,
        connected(service.port) as first,
        connected(service.port) as second,
    ):
        engine.freeze()
        first.send(request(body))
        await eventually(lambda: service.worker.bids.in_flight == 1)
        shed = await second.post(body)
        refused = await second.post(body[:-1] + b',"regs":{"coppa":1}}')
        late = await first.answer()
        engine.thaw()

    assert (shed.outcome, shed.body) == ("shed", stripped)
    assert refused.outcome == "no_consent"
    assert MEMBER.encode() not in refused.body
    assert (late.outcome, late.body) == ("store_down", stripped)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", "not_json", id="empty"),
        pytest.param(b'{"id":', "not_json", id="cut short"),
        pytest.param(b'{"id":"\xff"}', "not_utf8", id="not UTF-8"),
        pytest.param(b"[]", "not_a_bid_request", id="no object"),
        pytest.param(
            b'{"id":"1","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too_deep", id="deep"
        ),
    ],
)
async def test_malformed_request_is_told_its_reason_and_the_connection_goes_on(
    valkey: Engine, body: bytes, reason: str
) -> None:
    async with serving(valkey.url) as service, connected(service.port) as client:
        answer = await client.post(body)
        after = await client.post(bid_request())

    assert (answer.status, answer.outcome, answer.error) == (400, "malformed", reason)
    assert answer.body == b""
    assert after.outcome == "enriched"


async def test_corrupt_record_is_the_fault_of_its_request_alone(
    engine: Engine, redis_client: Redis
) -> None:
    async with serving(engine.url) as service, connected(service.port) as client:
        bits = (await read_meta(redis_client)).bucket_bits
        id_ = id_of_email_hash(STRANGER)
        await redis_client.hset(
            keys.bucket_key(keys.bucket_of(id_, bits)), keys.field_of(id_), b"\x10\x01"
        )
        client.send(request(bid_request(STRANGER)) + request(bid_request()))
        corrupt, sound = await client.answer(), await client.answer()

        assert (corrupt.outcome, corrupt.body) == ("store_down", bid_request(STRANGER))
        assert sound.outcome == "enriched"
        assert service.count("store_down", "corrupt_record") == 1


async def test_bug_in_one_request_lets_it_through_and_is_counted(
    valkey: Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(MEMBER)

    async with serving(valkey.url) as service, connected(service.port) as client:
        bids = service.worker.bids
        sound, bids.answer = bids.answer, broken  # type: ignore[assignment] # the bug
        in_answer = await client.post(bid_request())
        bids.answer = sound
        sound_ask, bids.ask = bids.ask, broken  # type: ignore[assignment] # another
        in_ask = await client.post(bid_request())
        bids.ask = sound_ask
        after = await client.post(bid_request())

        assert service.count("no_match", "fault") == 2

    assert [in_answer.outcome, in_ask.outcome, after.outcome] == ["no_match"] * 2 + ["enriched"]
    assert in_answer.body == in_ask.body == bid_request()
    assert MEMBER not in "".join(capfd.readouterr())


async def test_bid_that_cannot_even_leave_is_dropped_and_no_other(valkey: Engine) -> None:
    """
    Bids of one turn go through each stage together; a bug must not make them fall together.
    """

    def broken(_: Result) -> bytes:
        raise RuntimeError(MEMBER)

    async with (
        serving(valkey.url) as service,
        connected(service.port) as doomed,
        connected(service.port) as other,
    ):
        url = b"/openrtb2/enrich/dsp-a"
        routes = service.worker.bids.routes
        await doomed.post(bid_request(), url.decode())
        routes[url] = routes[url]._replace(form=routes[url].form._replace(render=broken))
        valkey.freeze()
        doomed.send(request(bid_request(), url.decode()))
        await eventually(lambda: service.worker.bids.in_flight == 1)
        other.send(request(bid_request(), "/openrtb2/patch/dsp-a"))
        await eventually(lambda: service.worker.bids.in_flight == 2)
        valkey.thaw()

        assert (await other.answer()).outcome == "enriched"
        assert await doomed.is_closed()
        assert service.worker.bids.in_flight == 0
        assert service.is_up


async def test_change_of_the_catalog_reaches_the_worker_within_a_second(
    engine: Engine, redis_client: Redis
) -> None:
    async def shows(client: Client, segment_id: str) -> bool:
        return segment_id.encode() in (await client.post(bid_request())).body

    async with serving(engine.url) as service, connected(service.port) as client:
        began_s = service.worker.bids.monotonic()
        await publish(redis_client, 2, segment_ids=("201",))
        await eventually(lambda: shows(client, "201"))
        took_s = service.worker.bids.monotonic() - began_s

        assert took_s < 1
        assert not await shows(client, "102")


async def test_worker_without_a_catalog_lets_requests_through(valkey: Engine) -> None:
    async with started(valkey.url) as service, connected(service.port) as client:
        named = await client.post(bid_request())

    assert (named.outcome, named.body) == ("store_down", bid_request())


async def test_known_recipient_is_let_through_until_a_catalog_is_published(
    valkey: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Between the layout of a new store and its first catalog, which take the loader two steps."""
    async with (
        connect(valkey.url) as redis,
        started(valkey.url) as service,
        connected(service.port) as client,
    ):
        await prepare(redis, EXPECTED_IDS)
        await caught_up(redis)
        await eventually(lambda: "no catalog is published yet" in caplog.text)
        before = await client.post(bid_request(), "/openrtb2/enrich/dsp-a")
        was_confirmed = service.worker.bids.is_confirmed
        await publish(redis, 1)
        await eventually(lambda: service.is_up)
        after = await client.post(bid_request(), "/openrtb2/enrich/dsp-a")

    assert (before.status, before.outcome, before.body) == (200, "store_down", bid_request())
    assert not was_confirmed
    assert after.outcome == "no_match"


def test_every_outcome_is_reached_here() -> None:
    """
    The list above is complete only as long as no outcome is added.
    """
    assert set(OUTCOMES) == {
        Outcome.ENRICHED,
        Outcome.NO_IDENTITY,
        Outcome.NO_CONSENT,
        Outcome.OPTED_OUT,
        Outcome.NO_MATCH,
        Outcome.HELD_OUT,
        Outcome.OUT_OF_TIME,
        Outcome.STORE_DOWN,
        Outcome.SHED,
        Outcome.MALFORMED,
    }
