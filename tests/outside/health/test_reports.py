"""Health and metrics: what went wrong with the like of them, by public reports."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from segments.store.servers.connection import connect
from tests.edge.client import connected
from tests.edge.processes import Listener, listening
from tests.edge.small_store import bid_request, eventually, furnish
from tests.engines import Engine

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def listener(valkey_server: Engine) -> AsyncIterator[Listener]:
    """Two workers, with health on the port of bids; the last test of the file stops them."""
    valkey_server.reset()
    async with connect(valkey_server.url) as client:
        await furnish(client)
    async with listening(
        redis_url=valkey_server.url, workers=2, health_on_bid_port=True, stop_accepting_after_s=30
    ) as running:
        await eventually(running.is_ready)
        yield running
        if running.process.returncode is None:  # another process of tests has the last test
            running.process.send_signal(signal.SIGINT)


async def _ask(
    listener: Listener, path: str, method: str = "GET"
) -> tuple[int, dict[str, str], str]:
    """Ask over a connection of its own, so that either worker is asked."""
    url = f"http://127.0.0.1:{listener.port}{path}"
    async with aiohttp.ClientSession() as session, session.request(method, url) as answer:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status, headers, await answer.text()


async def _is(listener: Listener, path: str, status: int) -> bool:
    """Whether it is answered so within a second; a worker that hangs answers nothing."""
    try:
        async with asyncio.timeout(1):
            return (await _ask(listener, path))[0] == status
    except TimeoutError:
        return False


async def test_head_is_answered_as_get_is(listener: Listener) -> None:
    """https://github.com/gotify/server/issues/687: monitors ask by HEAD, and were told 404."""
    for path in ("/health/live", "/healthz"):
        status, headers, body = await _ask(listener, path)

        assert (status, bool(body)) == (200, True)
        assert await _ask(listener, path, "HEAD") == (status, headers, "")
    assert (await _ask(listener, "/metrics", "HEAD"))[::2] == (200, "")


async def test_counters_never_go_back_whichever_worker_is_scraped(listener: Listener) -> None:
    """
    https://github.com/freelawproject/courtlistener/issues/7980: each scrape returned the worker
    that took it, and counters jumped.
    """
    seen: list[float] = []
    for _ in range(10):
        async with connected(listener.port) as client:
            await client.post(bid_request())
        _, _, text = await _ask(listener, "/metrics")
        seen += [
            float(each)
            for each in re.findall(r"^rtb_request_seconds_count (.*)$", text, re.MULTILINE)
        ]

    assert seen == [seen[0] + n for n in range(10)]


async def test_metrics_have_a_media_type_that_prometheus_3_reads(listener: Listener) -> None:
    """https://github.com/epoch8/airflow-exporter/issues/126: version 3 refused what had none."""
    for port in (listener.port, listener.admin_port):
        url = f"http://127.0.0.1:{port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_worker_that_hangs_is_not_hidden_by_one_that_answers(listener: Listener) -> None:
    """
    https://github.com/kserve/kserve/issues/2979: what was asked spoke for one worker of several.
    """
    hanging, _ = listener.workers()
    os.kill(hanging, signal.SIGSTOP)
    try:
        await eventually(lambda: _is(listener, "/healthz", 503))
    finally:
        os.kill(hanging, signal.SIGCONT)
    await eventually(listener.is_ready)


async def test_after_sigterm_it_is_alive_and_not_ready(listener: Listener) -> None:
    """
    https://github.com/apollographql/router/issues/3233: readiness stayed UP until the end;
    https://github.com/spring-projects/spring-boot/issues/24617: both probes were refused.
    """
    listener.process.send_signal(signal.SIGTERM)

    await eventually(lambda: _is(listener, "/healthz", 503))
    assert await _is(listener, "/health/live", 200)

    listener.process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(listener.process.wait(), 10)
