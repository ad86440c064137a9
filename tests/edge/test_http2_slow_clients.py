"""Clients of HTTP/2 that don't fetch their answers: what a worker holds for them, and how long."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from loadtest.artf.calls import framed
from rtb.server.http2.connection import Http2Connection
from rtb.server.http2.session import SessionLimits
from rtb.server.metrics.layout import REFUSED, Refusal
from tests.artf.host import SERVICES
from tests.edge.http2_client import Exchange, Http2Client, connected2, serving_by
from tests.edge.http2_engines import ENGINES
from tests.edge.small_store import Service, bid_request, eventually
from tests.edge.test_calls import call_of
from tests.engines import Engine

Serving = Callable[..., AbstractAsyncContextManager[Service]]

WINDOW = SettingCodes.INITIAL_WINDOW_SIZE
LARGE = bid_request(ext={"x": "y" * 20_000})
BODIES = 16
"""Bodies of the largest size are what a connection may hold."""

_WRITTEN_BYTES = 1 << 19
"""At most in the transport: a write, and what is left of the one before."""

_REFUSED = (ErrorCodes.REFUSED_STREAM, ErrorCodes.ENHANCE_YOUR_CALM)
"""Of a new stream, and of one whose answer was on its way."""


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.__name__)
def serving2(request: pytest.FixtureRequest, valkey: Engine) -> Serving:
    return partial(serving_by, request.param, valkey)


def _hurry(service: Service, fetch_timeout_s: float) -> None:
    site = service.worker.site
    site.limits = site.limits._replace(fetch_timeout_s=fetch_timeout_s)


def _connections(service: Service) -> list[Http2Connection]:
    return [one for one in service.worker.site.connections if isinstance(one, Http2Connection)]


def _refused(service: Service, refusal: Refusal) -> int:
    return service.counters.cells[REFUSED + list(Refusal).index(refusal)]


async def _asked(client: Http2Client, body: bytes, path: str = "") -> int:
    """Send a bid as soon as the server's windows let it."""
    room = lambda: client.h2.outbound_flow_control_window > 2 * len(body)  # noqa: E731
    await client.until(room)
    return client.ask(body, path) if path else client.ask(body)


async def test_answers_that_wait_for_a_window_are_bounded_together_and_given_up(
    serving2: Serving,
) -> None:
    async with (
        serving2(max_body_bytes=32_000) as service,
        connected2(service.port, settings={WINDOW: 0}) as client,
    ):
        client.fetches = False
        await client.post(b"", "/nowhere")
        [connection] = _connections(service)
        streams = [client.exchanges[await _asked(client, LARGE)] for _ in range(60)]
        await client.until(lambda: all(one.fields or one.reset_code is not None for one in streams))
        held = connection._held_bytes
        refused = [one for one in streams if one.reset_code in _REFUSED]
        _hurry(service, 0.1)
        await client.until(lambda: all(one.reset_code is not None for one in streams))
        given_up = [one for one in streams if one.reset_code == ErrorCodes.CANCEL]
        await eventually(lambda: connection._held_bytes == 0)
        answer = await client.post(b"", "/nowhere")

    assert held <= BODIES * 32_000
    assert len(refused) + len(given_up) == len(streams)
    assert (len(given_up) + 1) * len(LARGE) > BODIES * 32_000
    assert len(refused) == _refused(service, Refusal.OVER_BUDGET) > 20
    assert answer.error == "unknown_path"


@pytest.mark.parametrize("is_call", [False, True], ids=["a bid", "a call"])
async def test_window_that_is_opened_byte_by_byte_buys_no_time(
    serving2: Serving, is_call: bool
) -> None:
    async with (
        serving2(artf_recipient="dsp-a") as service,
        connected2(service.port, settings={WINDOW: 0}) as client,
    ):
        _hurry(service, 0.3)
        client.fetches = False
        stream = (
            client.ask(framed(call_of()), SERVICES, content_type="application/grpc")
            if is_call
            else client.ask(bid_request())
        )
        exchange = client.exchanges[stream]
        fetched = 0
        while exchange.reset_code is None and not exchange.is_ended:
            client.h2.increment_flow_control_window(1, stream)
            client.flush()
            fetched += 1
            has_come = partial(_has_come, exchange, fetched)
            await client.until(has_come)
            await asyncio.sleep(0.02)  # as a client that takes its time
        other = await client.post(b"", "/nowhere")

    assert exchange.reset_code == ErrorCodes.CANCEL
    assert len(exchange.body) < fetched + 1
    assert other.error == "unknown_path"


def _has_come(exchange: Exchange, size: int) -> bool:
    return len(exchange.body) >= size or exchange.reset_code is not None


async def test_windows_opened_byte_by_byte_are_a_flood_at_last(serving2: Serving) -> None:
    async with serving2() as service:
        service.worker.http2.limits = SessionLimits(max_idle_frames=500, idle_frames_a_request=10)
        async with connected2(service.port, settings={WINDOW: 0}) as client:
            client.fetches = False
            stream = client.ask(LARGE)
            exchange = client.exchanges[stream]
            with suppress(ConnectionError):
                for _ in range(1_000):
                    client.h2.increment_flow_control_window(1, stream)
                    client.flush()
            is_closed = await client.is_closed()

    assert is_closed
    assert client.goaways[-1][1] == ErrorCodes.ENHANCE_YOUR_CALM
    assert len(exchange.body) <= 520
    assert _refused(service, Refusal.FLOOD) == 1


async def test_client_that_reads_nothing_is_no_longer_read_and_then_hung_up_on(
    serving2: Serving,
) -> None:
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    raw.setblocking(False)

    async with (
        serving2(max_body_bytes=32_000) as service,
        connected2(service.port) as customer,
    ):
        _hurry(service, 0.3)
        await customer.post(bid_request())
        [known] = _connections(service)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", service.port))
        reader, writer = await asyncio.open_connection(sock=raw, limit=1_024)
        client = Http2Client(reader, writer)
        client.begin({WINDOW: (1 << 31) - 1})
        client.h2.increment_flow_control_window(1 << 30)
        await eventually(lambda: len(_connections(service)) == 2)
        [connection] = [one for one in _connections(service) if one is not known]
        client.h2.outbound_flow_control_window = 1 << 30  # it obeys no window, either
        peak = 0
        with suppress(ConnectionError):
            while connection.transport is not None:
                client.ask(LARGE)
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await writer.drain()
                transport = connection.transport
                if transport is not None:
                    held = connection._held_bytes + transport.get_write_buffer_size()
                    peak = max(peak, held)
        await eventually(lambda: connection.transport is None)
        answer = await customer.post(bid_request())
        await eventually(lambda: service.worker.bids.in_flight == 0)
        writer.close()

    assert 0 < peak < BODIES * 32_000 + _WRITTEN_BYTES
    assert answer.status == 200  # enriched, or not for want of time: the flood was work
