"""`rtb-segments explain`, over the store of the settings and from a listener."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from segments.store.servers.connection import connect
from segments.upkeep.listeners import Listeners
from tests.edge.small_store import MEMBER, bid_request, furnish
from tests.engines import Engine
from tests.listener import SECRET, explaining_listener
from tests.segments.cli.conftest import Command


@pytest.fixture
def furnished(store: Engine) -> Engine:
    async def fill() -> None:
        async with connect(store.url) as redis:
            await redis.flushall()
            await furnish(redis)

    asyncio.run(fill())
    return store


def in_the_trail(ok: Command) -> list[tuple[str, str, int]]:
    lines = ok("audit", "export").stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    return [
        (row["target"], row["result"], len(row["subjects"]))
        for row in rows
        if row["what"] == "explain"
    ]


def test_a_bid_is_explained_by_the_data_plane_and_is_in_the_trail(
    ok: Command, furnished: Engine
) -> None:
    said = ok("explain", "-", "--recipient", "dsp-a", stdin=bid_request()).stdout

    assert said.startswith("enriched\n2 segments added, for dsp-a, by catalog 1\n")
    assert MEMBER not in said
    assert in_the_trail(ok) == [("dsp-a", "done", 1)]


def test_a_recipient_that_does_not_exist_is_told_and_is_in_the_trail(
    run: Command, ok: Command, furnished: Engine
) -> None:
    result = run("explain", "-", "--recipient", "dsp-z", stdin=bid_request())

    assert result.exit_code == 1
    assert "no active recipient has that name" in result.stderr
    assert in_the_trail(ok) == [("dsp-z", "refused", 0)]


def test_listeners_explain_where_they_are_named(
    ok: Command, run: Command, furnished: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RTB_EXPLAIN_SECRET", SECRET)

    def with_listener(do: Callable[[Listeners], Awaitable[None]]) -> None:
        async def serve() -> None:
            async with explaining_listener(furnished.url) as listeners:
                await do(listeners)

        asyncio.run(serve())

    async def ask(listeners: Listeners) -> None:
        [url] = listeners.urls
        options = ["explain", "-", "--recipient", "dsp-a", "--listener", url]
        at = ["--at", "2026-11-29 11:42:00"]
        words = await asyncio.to_thread(ok, *options, stdin=bid_request())
        as_json = await asyncio.to_thread(ok, *options, *at, "--json", stdin=bid_request())
        away = ["--listener", "http://127.0.0.1:1"]
        two = await asyncio.to_thread(ok, *options, *away, stdin=bid_request())
        assert words.stdout.startswith("enriched\n")
        assert json.loads(as_json.stdout)["at_s"] == 1_795_952_520
        assert "http://127.0.0.1:1: it can't be reached" in two.stdout

    with_listener(ask)
