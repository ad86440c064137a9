"""Calls by gRPC's own client while connections end, and what is no call at a call's path."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from segments.store.servers.connection import connect
from tests.artf.host import HEALTH, SERVICES
from tests.edge.http2_client import connected2, serving_by
from tests.edge.http2_engines import ENGINES
from tests.edge.processes import listening
from tests.edge.small_store import MEMBER, eventually, furnish
from tests.edge.test_calls import call_of
from tests.edge.test_roll import hang_up, until_logged
from tests.engines import Engine

CALLERS = 8


@asynccontextmanager
async def calling(port: int) -> AsyncIterator[Counter[str]]:
    """Keep calls on their way, as a host does that has one channel; yields how they ended."""
    # No policy of retries. A call that never left, as the connection was announced to end, is begun
    # anew, as each client does: with `grpc.enable_retries` off this one fails it.
    options = [("grpc.use_local_subchannel_pool", 1)]
    statuses: Counter[str] = Counter()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        get_mutations = channel.unary_unary(SERVICES)
        is_over = False

        async def call() -> None:
            while not is_over:
                try:
                    await get_mutations(call_of(MEMBER), timeout=30)
                    statuses["OK"] += 1
                except grpc.RpcError as error:
                    said: Any = error
                    statuses[f"{said.code().name}: {said.details()}"] += 1
                    await asyncio.sleep(0.01)  # no busy loop of failures

        callers = [asyncio.create_task(call()) for _ in range(CALLERS)]
        try:
            yield statuses
        finally:
            is_over = True
            await asyncio.gather(*callers)


@pytest.mark.parametrize("engine", ENGINES)
async def test_connections_of_a_host_end_by_age_and_none_of_its_calls_fails(
    valkey: Engine, engine: Any
) -> None:
    async with serving_by(engine, valkey, artf_recipient="dsp-a", h2_max_age_s=0.3) as service:
        known: set[object] = set()
        async with calling(service.port) as statuses:

            def is_enough() -> bool:
                known.update(service.worker.site.connections)
                return len(known) > 3

            await eventually(is_enough)

    assert set(statuses) == {"OK"}
    assert statuses["OK"] > len(known)


async def test_workers_are_replaced_and_none_of_a_hosts_calls_fails(valkey: Engine) -> None:
    async with connect(valkey.url) as redis:
        await furnish(redis)
    async with listening(redis_url=valkey.url, workers=2, artf_recipient="dsp-a") as listener:
        await eventually(listener.is_ready)
        before = set(listener.workers())
        async with calling(listener.port) as statuses:
            await eventually(lambda: statuses["OK"] > CALLERS)
            hang_up(listener)
            await until_logged(listener, "rolled 2 worker(s)")
            so_far = statuses["OK"]
            await eventually(lambda: statuses["OK"] > so_far + CALLERS)
        after = set(listener.workers())

    assert not before & after
    assert set(statuses) == {"OK"}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("path", [SERVICES, HEALTH])
@pytest.mark.parametrize(
    ("method", "content_type"),
    [
        ("POST", "application/json"),
        ("POST", "application/x-protobuf"),
        ("POST", "application/grpc-web"),
        ("POST", "application/grpc+json"),
        ("POST", ""),
        ("GET", "application/grpc"),
    ],
)
async def test_what_is_no_call_is_415_at_the_path_of_one(
    valkey: Engine, engine: Any, path: str, method: str, content_type: str
) -> None:
    async with (
        serving_by(engine, valkey, artf_recipient="dsp-a") as service,
        connected2(service.port) as client,
    ):
        stream = client.send_head(path, method=method, content_type=content_type)
        client.send_body(stream, b"\0\0\0\0\0")
        client.flush()
        answer = await client.answer(stream)
        call = client.ask(b"\0\0\0\0\0", HEALTH, content_type="application/grpc")
        after = await client.answer(call)

    assert (answer.status, answer.error, answer.body) == (415, "content_type", b"")
    assert "grpc-status" not in {**answer.headers, **client.exchanges[stream].trailers}
    assert (after.status, client.exchanges[call].trailers) == (200, {"grpc-status": "0"})
