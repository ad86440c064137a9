"""What becomes of a worker whose own tasks meet an unforeseen error."""

import asyncio
import socket
import time

import pytest

from rtb.catalog import Catalog
from rtb.server.catalog_follower import CatalogLease, follow
from rtb.server.metrics.layout import BUGS, Where
from rtb.server.metrics.shared_counters import SharedCounters, create
from rtb.server.worker import Worker
from rtb.settings import RtbSettings
from segments.store.servers.connection import connect
from tests.edge.client import WITHIN_S
from tests.edge.small_store import eventually, furnish, publish, serving
from tests.engines import Engine


async def test_an_error_that_nobody_foresaw_is_told_and_the_next_catalog_is_followed(
    valkey: Engine,
) -> None:
    complaints: list[str] = []
    bugs: list[Exception] = []
    adopted: list[int] = []

    def adopt(catalog: Catalog) -> None:
        if not bugs:
            raise KeyError("jane@example.com")
        adopted.append(catalog.version)

    async with connect(valkey.url) as redis, connect(valkey.url) as followers:
        await furnish(redis)
        following = asyncio.create_task(
            follow(
                followers,
                hold_out=0,
                adopt=adopt,
                confirm=lambda _: None,
                lease=CatalogLease(1000, time.monotonic),
                complain=lambda message, _: complaints.append(message) if message else None,
                on_bug=bugs.append,
            )
        )
        await eventually(lambda: adopted == [1])
        await publish(redis, 2)
        await eventually(lambda: adopted == [1, 2])
        following.cancel()
        await asyncio.wait([following])

    assert [type(bug) for bug in bugs] == [KeyError]
    assert complaints == ["the catalog can't be followed, by a bug: KeyError"]


class Stopping(Worker):
    """Its clock stops when it has a catalog."""

    def _beat(self) -> None:
        super()._beat()
        if not self.bids.is_blind:
            raise KeyError("jane@example.com")


async def test_a_worker_whose_clock_stops_says_so_and_drains(
    valkey: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Its supervisor, who is told by the exit status, starts another one."""
    counters = SharedCounters(create(1), 0)
    settings = RtbSettings(redis_url=valkey.url, drain_s=0)
    async with connect(valkey.url) as redis:
        await furnish(redis)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        worker = Stopping(settings, [listening], counters)

        async with asyncio.timeout(WITHIN_S):
            await worker.run(asyncio.Event())

    assert worker.is_broken
    assert counters.cells[BUGS + list(Where).index(Where.LOOP)] == 1
    assert any("bug in loop: KeyError" in text for text in caplog.messages)
    assert "jane" not in caplog.text


async def test_a_worker_that_is_told_to_stop_is_not_broken(valkey: Engine) -> None:
    async with serving(valkey.url) as service:
        pass

    assert not service.worker.is_broken
