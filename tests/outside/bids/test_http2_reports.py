"""
What went wrong with other servers of HTTP/2, by public reports, tried on ours and each engine.

Each test names the report by its URL. Floods (CVE-2023-44487, CVE-2024-24549, CVE-2025-8671) are in
tests/edge/test_http2.py.
"""

import asyncio
import json
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest
from h2.settings import SettingCodes

from tests.edge.http2_client import connected2, serving_by
from tests.edge.http2_engines import ENGINES
from tests.edge.small_store import Service, bid_request, eventually
from tests.engines import Engine

WINDOW = SettingCodes.INITIAL_WINDOW_SIZE


@pytest.mark.parametrize("engine", ENGINES)
async def test_streams_that_come_behind_the_first_goodbye_are_answered(
    valkey: Engine, engine: Any
) -> None:
    """https://github.com/cloudflare/pingora/issues/865"""
    async with serving_by(engine, valkey) as service, connected2(service.port) as client:
        first = await client.post(bid_request())
        service.worker.site.drain()
        streams = [client.ask(bid_request()) for _ in range(20)]
        answers = [await client.answer(stream) for stream in streams]

    assert {answer.outcome for answer in (first, *answers)} == {"enriched"}
    assert client.goaways[0] == (2**31 - 1, 0)


@pytest.mark.parametrize("engine", ENGINES)
async def test_stream_that_crosses_the_last_goodbye_costs_no_other(
    valkey: Engine, engine: Any
) -> None:
    """https://github.com/nghttp2/nghttp2/issues/681"""
    async with serving_by(engine, valkey) as service, connected2(service.port) as client:
        [connection] = await _connections(service)
        held = client.send_head()
        client.send_body(held, bid_request()[:10], ends=False)
        client.flush()
        await eventually(lambda: not connection.is_idle)
        connection._say_last()
        connection.flush()
        client.ask(bid_request())  # the client has not read it yet
        client.send_body(held, bid_request()[10:])
        client.flush()
        answer = await client.answer(held)

    assert answer.outcome == "enriched"


async def _connections(service: Service) -> Sequence[Any]:
    def are_here() -> bool:
        return bool(service.worker.site.connections)

    await eventually(are_here)
    await eventually(lambda: any(hasattr(c, "flush") for c in service.worker.site.connections))
    return list(service.worker.site.connections)


@pytest.mark.parametrize("engine", ENGINES)
async def test_window_that_settings_open_is_used(valkey: Engine, engine: Any) -> None:
    """https://github.com/oven-sh/bun/pull/29962, https://github.com/akka/akka-http/pull/3554"""
    async with (
        serving_by(engine, valkey) as service,
        connected2(service.port, settings={WINDOW: 0}) as client,
    ):
        stream = client.ask(bid_request())
        await client.until(lambda: bool(client.exchanges[stream].fields))
        before = client.exchanges[stream].body
        client.h2.update_settings({WINDOW: 50_000})
        client.flush()
        answer = await client.answer(stream)

    assert before == b""
    assert answer.outcome == "enriched"
    json.loads(answer.body)


@pytest.mark.parametrize("engine", ENGINES)
async def test_window_below_zero_is_paid_back_before_more_is_sent(
    valkey: Engine, engine: Any
) -> None:
    """https://github.com/h2o/h2o/issues/3585, https://github.com/vlet/p5-Protocol-HTTP2/pull/2"""
    async with (
        serving_by(engine, valkey) as service,
        connected2(service.port, settings={WINDOW: 1_000}) as client,
    ):
        client.fetches = False
        stream = client.ask(bid_request(ext={"x": "y" * 5_000}))
        exchange = client.exchanges[stream]
        await client.until(lambda: len(exchange.body) == 1_000)
        client.h2.update_settings({WINDOW: 0})  # now it is at -1,000
        client.h2.increment_flow_control_window(900, stream)
        client.flush()
        await client.post(b"", "/nowhere")
        at_a_hundred_below = len(exchange.body)
        client.h2.increment_flow_control_window(10_000, stream)
        client.flush()
        answer = await client.answer(stream)

    assert at_a_hundred_below == 1_000
    assert answer.outcome == "enriched"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("connections", [(1, 32), (8, 4)])
async def test_h2load_loses_no_bid(
    valkey: Engine, engine: Any, connections: tuple[int, int], tmp_path_factory: Any
) -> None:
    """The client that others measure by; its connections also meet their age on the way."""
    body = tmp_path_factory.mktemp("h2load") / "bid.json"
    body.write_bytes(bid_request())
    clients, streams = connections

    async with serving_by(engine, valkey) as service:
        url = f"http://127.0.0.1:{service.port}/openrtb2/enrich/dsp-a"
        command = ["h2load", "-n1000", f"-c{clients}", f"-m{streams}", f"-d{body}"]
        process = await asyncio.create_subprocess_exec(
            *command, "-Hcontent-type: application/json", url, stdout=subprocess.PIPE
        )
        said = (await process.communicate())[0].decode()
        enriched = service.count("enriched")

    assert "1000 succeeded, 0 failed, 0 errored, 0 timeout" in said
    assert enriched == 1_000


@pytest.mark.parametrize("engine", ENGINES)
async def test_curl_is_answered(valkey: Engine, engine: Any) -> None:
    async with serving_by(engine, valkey) as service:
        url = f"http://127.0.0.1:{service.port}/openrtb2/enrich/dsp-a"
        process = await asyncio.create_subprocess_exec(
            *("curl", "-sS", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}"),
            *("-H", "Content-Type: application/json", "-d", bid_request().decode(), url),
            stdout=subprocess.PIPE,
        )
        said = (await process.communicate())[0].decode()

    assert said.endswith("}2 200")
