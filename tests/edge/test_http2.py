"""HTTP/2 on the bid listener, over each of the engines that speak its frames."""

import asyncio
import gzip
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import NoReturn

import pytest
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from prometheus_client import generate_latest

from rtb.server.http2.session import SessionLimits
from rtb.server.metrics import layout
from rtb.server.metrics.admin_port import Board
from rtb.server.metrics.layout import Refusal
from segments.store.servers.connection import connect
from tests.edge.client import Answer, connected
from tests.edge.http2_client import Gone, Http2Client, connected2, serving_by
from tests.edge.http2_engines import ENGINES
from tests.edge.processes import listening
from tests.edge.small_store import (
    MEMBER,
    OPTED_OUT,
    SHOP_DATA,
    STRANGER,
    Service,
    added_data,
    bid_request,
    eventually,
    furnish,
)
from tests.engines import Engine
from tests.tls import TestCa

Serving = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.__name__)
def serving2(request: pytest.FixtureRequest, valkey: Engine) -> Serving:
    """A worker that speaks HTTP/2 by one of the engines."""
    return partial(serving_by, request.param, valkey)


_ONE_VERSION_ALONE = {"connection", "keep-alive", ":status"}


def _told(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    headers = {k: v for k, v in answer.headers.items() if k not in _ONE_VERSION_ALONE}
    return answer.status, headers, answer.body


_ASKED: list[tuple[str, bytes, dict[str, str]]] = [
    *(
        (f"{path}{name}", bid_request(person), {})
        for path in ("/openrtb2/enrich", "/openrtb2/patch", "/openrtb25")
        for name in ("/dsp-a", "/dsp-without-grants", "/nobody", "")
        for person in (MEMBER, OPTED_OUT, STRANGER, None)
    ),
    ("/openrtb2/enrich/dsp-a", b"no json", {}),
    ("/openrtb2/enrich/dsp-a", b"", {}),
    ("/openrtb2/enrich/dsp-a", gzip.compress(bid_request()), {"Content_Encoding": "gzip"}),
    ("/openrtb2/enrich/dsp-a", bid_request(), {"Content_Encoding": "br"}),
    ("/openrtb2/enrich/dsp-a?gzip=1", gzip.compress(bid_request()), {}),
    ("/openrtb2/enrich/dsp-a", bid_request(ext={"x": "y" * 2_000}), {"Accept_Encoding": "gzip"}),
    ("/openrtb2/enrich/dsp-a", bid_request(), {"X_OpenRTB_Version": "2.6"}),
    ("/openrtb2/enrich/dsp-a", b" " * 3_000, {}),
    ("/openrtb2/enrich/dsp-a", bid_request(), {"X_Large": "x" * 20_000}),
    ("/openrtb2/enrich/dsp-a", bid_request(), {f"X_{i}": "1" for i in range(200)}),
    ("/openrtb2/enrich/dsp-a", bid_request(), {"Expect": "200-ok"}),
    ("/openrtb2/enrich/dsp-a", bid_request(), {"X_Enrich_Debug": "1"}),
    ("/nowhere", b"{}", {}),
    ("/health/live", b"", {}),
]


async def test_each_request_is_answered_as_over_http_1(serving2: Serving) -> None:
    async with (
        serving2(max_body_bytes=2_500, debug_header=True) as service,
        connected2(service.port) as client,
    ):
        first, second = [], []
        for path, body, headers in _ASKED:
            async with connected(service.port) as old:
                first.append(_told(await old.post(body, path, **headers)))
            lower = {name.lower(): value for name, value in headers.items()}
            second.append(_told(await client.post(body, path, **lower)))

    assert second == first


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
async def test_other_methods_are_refused_as_over_http_1(serving2: Serving, method: str) -> None:
    async with serving2() as service, connected2(service.port) as client:
        answer = await client.answer(_flushed(client, client.send_head(method=method, ends=True)))

    assert (answer.status, answer.error) == (405, "not_post")
    assert answer.headers["allow"] == "POST"


def _flushed(client: Http2Client, stream_id: int) -> int:
    client.flush()
    return stream_id


async def test_bids_are_answered_as_over_http_1_where_tls_agrees_on_it(
    serving2: Serving, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ca = TestCa.in_folder(tmp_path_factory.mktemp("tls"))
    tls, old = ca.client(), ca.client()
    tls.set_alpn_protocols(["h2"])
    old.set_alpn_protocols(["http/1.1"])

    async with (
        serving2(tls_cert=ca.cert, tls_key=ca.key) as service,
        connected2(service.port, tls) as client,
        connected(service.port, old) as other,
    ):
        agreed = client.writer.get_extra_info("ssl_object").selected_alpn_protocol()
        kept = other.writer.get_extra_info("ssl_object").selected_alpn_protocol()
        bodies = [bid_request(MEMBER, ext={"padding": "x" * n}) for n in (0, 10_000, 50_000)]
        answers = [_told(await client.post(body)) for body in bodies]
        expected = [_told(await other.post(body)) for body in bodies]

    assert (agreed, kept) == ("h2", "http/1.1")
    assert answers == expected


async def test_metrics_tell_by_which_version_bids_were_answered(serving2: Serving) -> None:
    async with serving2() as service, connected2(service.port) as client:
        await client.post(bid_request())
        service.counters.count_refusal(Refusal.OVER_BUDGET)  # which no answer tells of
        text = generate_latest(Board([service.counters])).decode()

    counted = [line for line in text.splitlines() if 'protocol_version="2"' in line]
    assert any("_count{" in line and line.endswith(" 1.0") for line in counted)
    assert 'rtb_refused_total{error="over_budget"} 1.0' in text


async def test_all_streams_are_answered_each_its_own(serving2: Serving) -> None:
    async with serving2() as service, connected2(service.port) as client:
        people = [MEMBER, OPTED_OUT, STRANGER, None] * 25
        streams = [client.ask(bid_request(person, n=n)) for n, person in enumerate(people)]
        answers = [await client.answer(stream) for stream in streams]

    assert [answer.outcome for answer in answers] == [
        "enriched", "opted_out", "no_match", "no_identity",
    ] * 25  # fmt: skip
    assert added_data(answers[0].body) == [SHOP_DATA]
    assert all(f'"n": {n}'.encode() in answer.body for n, answer in enumerate(answers))


@pytest.mark.parametrize("size", [1, 3, 7, 23])
async def test_preface_and_frames_may_come_in_pieces(serving2: Serving, size: int) -> None:
    async with serving2() as service, connected(service.port) as raw:
        client = Http2Client(raw.reader, raw.writer)
        client.h2.initiate_connection()
        stream = client.send_head()
        client.send_body(stream, bid_request())
        data = client.h2.data_to_send()
        for at in range(0, len(data), size):
            raw.send(data[at : at + size])
            await raw.writer.drain()
            await asyncio.sleep(0)
        answer = await client.answer(stream)

    assert answer.outcome == "enriched"


@pytest.mark.parametrize(
    "opening", [b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", b"PRI / HTTP/1.1\r\nHost: a\r\n\r\n"]
)
async def test_what_only_begins_as_the_preface_is_refused_by_http_1(
    serving2: Serving, opening: bytes
) -> None:
    async with serving2() as service, connected(service.port) as client:
        client.send(opening)
        answer = await client.answer()

    assert (answer.status, answer.error) == (400, "bad_http")


async def test_client_that_waits_to_be_told_is_told_to_send_its_body(serving2: Serving) -> None:
    async with serving2() as service, connected2(service.port) as client:
        stream = _flushed(client, client.send_head(expect="100-continue"))
        await client.until(lambda: client.exchanges[stream].informed == ["100"])
        client.send_body(stream, bid_request())
        client.flush()
        answer = await client.answer(stream)

    assert answer.outcome == "enriched"


async def test_body_in_many_parts_is_read(serving2: Serving) -> None:
    async with serving2() as service, connected2(service.port) as client:
        stream = client.send_head()
        for byte in bid_request():
            client.send_body(stream, bytes([byte]), ends=False)
        client.send_body(stream, b"")
        client.flush()
        answer = await client.answer(stream)

    assert answer.outcome == "enriched"


async def test_body_that_is_too_large_is_refused_before_its_end(serving2: Serving) -> None:
    async with serving2(max_body_bytes=2_000) as service, connected2(service.port) as client:
        stream = client.send_head()
        client.send_body(stream, b" " * 3_000, ends=False)
        client.flush()
        answer = await client.answer(stream)
        await client.until(lambda: client.exchanges[stream].reset_code is not None)
        other = await client.post(bid_request())

    assert (answer.status, answer.error) == (413, "body_too_large")
    assert client.exchanges[stream].reset_code == ErrorCodes.NO_ERROR
    assert other.outcome == "enriched"


async def test_bodies_of_one_connection_are_bounded_together(serving2: Serving) -> None:
    async with serving2(max_body_bytes=1_024) as service, connected2(service.port) as client:
        streams = [client.send_head() for _ in range(20)]
        for stream in streams:
            client.send_body(stream, b" " * 1_000, ends=False)
        client.flush()
        codes = [client.exchanges[stream] for stream in streams]
        await client.until(lambda: any(one.reset_code is not None for one in codes))
        client.send_body(streams[0], b"")
        client.flush()
        first = await client.answer(streams[0])

    assert first.status == 400  # spaces: it was read, and is no bid request
    assert {one.reset_code for one in codes} <= {None, ErrorCodes.ENHANCE_YOUR_CALM}


async def test_body_that_takes_too_long_is_refused_alone(serving2: Serving) -> None:
    async with serving2(body_timeout_s=0.2) as service, connected2(service.port) as client:
        stream = client.send_head()
        client.send_body(stream, b"{", ends=False)
        client.flush()
        answer = await client.answer(stream)
        other = await client.post(bid_request())

    assert (answer.status, answer.error) == (408, "too_slow")
    assert other.outcome == "enriched"


async def test_answers_obey_the_client_s_windows(serving2: Serving) -> None:
    body = bid_request(ext={"padding": "x" * 150_000})

    async with serving2() as service, connected2(service.port) as client:
        client.fetches = False
        stream = client.send_head()
        for at in range(0, len(body), 50_000):
            client.send_body(stream, body[at : at + 50_000], ends=False)
            client.flush()
            room = lambda: client.h2.local_flow_control_window(stream) >= 60_000  # noqa: E731
            await client.until(room)
        client.send_body(stream, b"")
        client.flush()
        exchange = client.exchanges[stream]
        await client.until(lambda: len(exchange.body) == 65_535)
        other = await client.post(b"", "/nowhere")  # without a body; nothing overtakes it
        stopped_at = len(exchange.body)
        client.h2.increment_flow_control_window(1 << 20)
        client.h2.increment_flow_control_window(1 << 20, stream)
        client.flush()
        answer = await client.answer(stream)

    assert other.error == "unknown_path"
    assert stopped_at == 65_535
    assert added_data(answer.body) == [SHOP_DATA]


async def test_answer_that_nobody_fetches_is_given_up(serving2: Serving) -> None:
    async with serving2() as service, connected2(service.port) as client:
        service.worker.site.limits = service.worker.site.limits._replace(fetch_timeout_s=0.2)
        client.fetches = False
        for _ in range(4):
            # The client's window of 65,535 bytes is for all of them.
            exchange = client.exchanges[client.ask(bid_request(ext={"x": "y" * 20_000}))]
            await client.until(lambda: client.h2.outbound_flow_control_window > 60_000)
        await client.until(lambda: exchange.reset_code is not None)

    assert exchange.reset_code == ErrorCodes.CANCEL


async def test_client_that_resets_its_stream_takes_nothing_with_it(serving2: Serving) -> None:
    async with serving2() as service, connected2(service.port) as client:
        left = client.ask(bid_request())
        client.h2.reset_stream(left, ErrorCodes.CANCEL)
        client.flush()
        answer = await client.post(bid_request())
        await eventually(lambda: service.worker.bids.in_flight == 0)

    assert answer.outcome == "enriched"


async def test_client_that_says_goodbye_has_its_answers_first(serving2: Serving) -> None:
    async with serving2() as service, connected2(service.port) as client:
        streams = [client.ask(bid_request()) for _ in range(3)]
        client.h2.close_connection()
        client.h2.state_machine.state = type(client.h2.state_machine.state).CLIENT_OPEN
        client.flush()
        answers = [await client.answer(stream) for stream in streams]
        is_closed = await client.is_closed()

    assert [answer.outcome for answer in answers] == ["enriched"] * 3
    assert is_closed


async def test_connection_without_requests_is_ended_and_says_so(serving2: Serving) -> None:
    async with serving2(idle_timeout_s=0.3) as service, connected2(service.port) as client:
        first = await client.post(bid_request())
        is_closed = await client.is_closed()

    assert first.outcome == "enriched"
    assert is_closed
    assert client.goaways == [(1, ErrorCodes.NO_ERROR)]


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(b"\0\0\1\0\0\0\0\0\0x", id="DATA of no stream"),
        pytest.param(b"\0\0\3\6\0\0\0\0\0xyz", id="a short PING"),
        pytest.param(b"\0\0\4\1\5\0\0\0\1\xff\xff\xff\xff", id="a head that is no HPACK"),
        pytest.param(b"\xff" * 2_000_000, id="a frame without end"),
    ],
)
async def test_what_is_no_http_2_is_hung_up_on_and_disturbs_nobody(
    serving2: Serving, what: bytes
) -> None:
    async with serving2() as service, connected2(service.port) as client:
        async with connected2(service.port) as broken:
            broken.writer.write(what)
            is_closed = await broken.is_closed()
        answer = await client.post(bid_request())

    assert is_closed
    assert broken.goaways[-1][1] != ErrorCodes.NO_ERROR
    assert answer.outcome == "enriched"


async def test_newcomer_for_whom_there_is_no_place_is_told_so(serving2: Serving) -> None:
    async with serving2() as service, connected2(service.port) as first:
        await first.post(bid_request())
        service.worker.site.max_connections = 1
        async with connected2(service.port) as newcomer:
            stream = newcomer.ask(bid_request())
            with pytest.raises(Gone):
                await newcomer.answer(stream)
            is_closed = await newcomer.is_closed()
        kept = await first.post(bid_request())

    assert is_closed
    assert newcomer.goaways == [(0, ErrorCodes.ENHANCE_YOUR_CALM)]
    assert kept.outcome == "enriched"


async def test_bug_costs_one_stream_and_no_other(serving2: Serving) -> None:
    async with serving2() as service, connected2(service.port) as client:
        bids = service.worker.bids
        stage = bids.ask
        bids.ask = _broken  # type: ignore[assignment] # of any arguments
        lost = client.ask(bid_request())
        answer = await client.answer(lost)
        bids.ask = stage
        kept = await client.post(bid_request())

    assert answer.outcome == "no_match"
    assert kept.outcome == "enriched"


def _broken(*_: object) -> NoReturn:
    raise RuntimeError


async def _asks_until(client: Http2Client, is_enough: Callable[[], bool]) -> list[str]:
    """Keep eight requests on their way until it is enough; return how all of them ended."""
    streams: list[int] = []
    outcomes = []
    while streams or not is_enough():
        while len(streams) < 8 and not is_enough():
            streams.append(client.ask(bid_request()))
        outcomes.append((await client.answer(streams.pop(0))).outcome)
    return outcomes


async def test_connection_that_has_lasted_long_enough_ends_without_a_lost_call(
    serving2: Serving,
) -> None:
    async with serving2(h2_max_age_s=0.4) as service, connected2(service.port) as client:
        # As a client that has not read the first word yet: it asks until the last one.
        outcomes = await _asks_until(client, lambda: len(client.goaways) > 0)
        is_closed = await client.is_closed()

    assert set(outcomes) == {"enriched"}
    assert client.goaways == [(2**31 - 1, 0), (2 * len(outcomes) - 1, 0)]
    assert is_closed


async def test_requests_between_the_two_goodbyes_are_answered(serving2: Serving) -> None:
    async with serving2() as service, connected2(service.port) as client:
        await client.post(bid_request())
        service.worker.site.drain()
        await client.until(lambda: client.goaways == [(2**31 - 1, 0)])
        answers = [await client.post(bid_request()) for _ in range(3)]
        is_closed = await client.is_closed()

    assert [answer.outcome for answer in answers] == ["enriched"] * 3
    assert client.goaways == [(2**31 - 1, 0), (7, 0)]
    assert is_closed


async def test_worker_that_stops_loses_no_call(serving2: Serving) -> None:
    async with serving2(drain_s=10) as service, connected2(service.port) as client:
        await client.post(bid_request())
        service.stop.set()
        outcomes = await _asks_until(client, lambda: len(client.goaways) > 0)
        is_closed = await client.is_closed()

    assert set(outcomes) == {"enriched"}
    assert is_closed


async def test_who_connects_while_the_worker_drains_is_answered_and_told(
    serving2: Serving,
) -> None:
    async with serving2() as service:
        service.worker.site.drain()
        async with connected2(service.port) as client:
            answer = await client.post(bid_request())
            await client.until(lambda: bool(client.goaways))

    assert answer.outcome == "enriched"
    assert client.goaways[0] == (2**31 - 1, 0)


def _resets(client: Http2Client) -> None:
    """CVE-2023-44487."""
    for _ in range(200):
        stream = client.send_head()
        client.h2.reset_stream(stream, ErrorCodes.CANCEL)


def _made_resets(client: Http2Client) -> None:
    """CVE-2025-8671: the server is made to reset them, by frames that are wrong."""
    for _ in range(200):
        stream = client.send_head()
        client.flush()
        client.writer.write(WindowUpdateFrame(stream, window_increment=(1 << 31) - 1).serialize())


def _pings(client: Http2Client) -> None:
    client.writer.write(PingFrame(0, opaque_data=b"12345678").serialize() * 200)


def _settings(client: Http2Client) -> None:
    client.writer.write(SettingsFrame(0).serialize() * 200)


def _empty_data(client: Http2Client) -> None:
    stream = client.send_head()
    client.flush()
    client.writer.write(DataFrame(stream).serialize() * 200)


def _windows(client: Http2Client) -> None:
    client.writer.write(WindowUpdateFrame(0, window_increment=1).serialize() * 200)


def _priorities(client: Http2Client) -> None:
    client.writer.write(PriorityFrame(1, depends_on=3).serialize() * 200)


@pytest.mark.parametrize(
    "flood",
    [_resets, _made_resets, _pings, _settings, _empty_data, _windows, _priorities],
    ids=lambda flood: flood.__name__.strip("_"),
)
async def test_flood_is_hung_up_on_and_others_are_answered(
    serving2: Serving, flood: Callable[[Http2Client], None]
) -> None:
    async with serving2() as service, connected2(service.port) as customer:
        service.worker.http2.limits = SessionLimits(
            max_resets=500, resets_per_s=10, max_idle_frames=1_000
        )
        async with connected2(service.port) as client:
            while not client.is_over:
                flood(client)
                client.flush()
                with suppress(ConnectionError, ProtocolError, TimeoutError, Gone):
                    await client.writer.drain()
                    async with asyncio.timeout(0.01):
                        await client.until(lambda: bool(client.goaways))
                if client.goaways:
                    break
        answer = await customer.post(bid_request())
        await eventually(lambda: service.worker.bids.in_flight == 0)

    assert answer.status == 200  # enriched, or not for want of time: the flood was work
    assert client.goaways or client.is_over
    assert service.counters.cells[_FLOODS] >= 1


_FLOODS = layout.REFUSED + tuple(Refusal).index(Refusal.FLOOD)


async def test_head_that_goes_on_without_end_is_hung_up_on(serving2: Serving) -> None:
    """CVE-2024-24549, CVE-2024-28182."""
    block = b"\x00\x01a\x7f\xff\x7f" + b"x" * 16_000

    async with serving2() as service, connected2(service.port) as client:
        client.writer.write(HeadersFrame(1, block).serialize())
        with suppress(ConnectionError, Gone):
            for _ in range(1_000):
                client.writer.write(ContinuationFrame(1, b"x" * 16_000).serialize())
                await client.writer.drain()
        is_closed = await client.is_closed()

    assert is_closed


async def test_further_port_speaks_both_versions_as_the_first_does(valkey: Engine) -> None:
    async with connect(valkey.url) as redis:
        await furnish(redis)
    async with listening(redis_url=valkey.url, workers=2, grpc_port=0) as listener:
        await eventually(listener.is_ready)
        outcomes = []
        for port in (listener.port, listener.grpc_port):
            async with connected(port) as old, connected2(port) as new:
                outcomes += [(await one.post(bid_request())).outcome for one in (old, new)]
        async with connected2(listener.grpc_port) as client:
            first = await client.post(bid_request())
            listener.process.terminate()
            asked = await _asks_until(client, lambda: bool(client.goaways))
            is_closed = await client.is_closed()
        status = await listener.process.wait()

    assert listener.port != listener.grpc_port
    assert outcomes == ["enriched"] * 4
    assert {first.outcome, *asked} == {"enriched"}
    assert is_closed
    assert status == 0
