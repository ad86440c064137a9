"""Listeners asked why a bid ended so: what they answer, and what keeps them from it."""

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from redis.asyncio import Redis

from segments.model.explained_bid import Asked, Explanation
from segments.upkeep.explaining import Answer, ask_all, differ
from segments.upkeep.listeners import Listeners
from tests.edge.small_store import bid_request, furnish
from tests.engines import Engine
from tests.listener import SECRET, explaining_listener

ASKED = Asked(bid_request().decode(), "dsp-a")


def told(version: int) -> Answer:
    return Answer("http://x", Explanation("no_match", "", None, version, float(version), 0, "", ()))


async def test_every_listener_is_asked_and_one_that_is_away_costs_no_other(
    redis_client: Redis, engine: Engine
) -> None:
    await furnish(redis_client)
    async with explaining_listener(engine.url) as listeners:
        both = Listeners((*listeners.urls, "http://127.0.0.1:1"), SECRET)
        here, away = await ask_all(both, ASKED)

    assert here.explanation is not None
    assert here.explanation.outcome == "enriched"
    assert away == Answer("http://127.0.0.1:1", None, "it can't be reached (ClientConnectorError)")


async def test_trouble_is_told_with_what_to_do(valkey: Engine) -> None:
    async with explaining_listener(valkey.url) as right:
        troubles = [
            (await ask_all(listeners, ASKED))[0].trouble
            for listeners in (
                Listeners(right.urls),
                Listeners(right.urls, "another-secret-than-that"),
                Listeners((f"{right.urls[0]}/elsewhere",), SECRET),
                right,
            )
        ]

    assert troubles[0].startswith("RTB_EXPLAIN_SECRET is not set here")
    assert troubles[1] == "the bearer is not RTB_EXPLAIN_SECRET"
    assert troubles[2].startswith("it has no RTB_EXPLAIN_SECRET")
    assert troubles[3].startswith("the store has no seg:1:meta")


@pytest.mark.parametrize("status", [200, 302, 500])
async def test_server_that_is_no_listener_is_told_as_such(status: int) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text="<html>")

    app = web.Application()
    app.router.add_post("/explain", answer)
    async with TestServer(app) as server:
        [told] = await ask_all(Listeners((str(server.make_url("/")),), SECRET), ASKED)

    assert told.trouble == f"it answers {status}, and is no bid listener of this version"


def test_listeners_differ_by_what_they_say_not_by_their_moment() -> None:
    moved = msgspec.structs.replace(told(1).explanation, at_s=9.0)  # type: ignore[type-var]

    assert not differ([told(1), Answer("http://y", moved), Answer("http://z", trouble="away")])
    assert differ([told(1), told(2)])
