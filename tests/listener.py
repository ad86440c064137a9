"""A bid listener's `POST /explain`, served alone: for tests of those who ask it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestServer

from rtb.server.explain_endpoint import ExplainEndpoint
from rtb.settings import RtbSettings
from segments.upkeep.listeners import Listeners

SECRET = "a-secret-of-the-listener"


@asynccontextmanager
async def explaining_listener(store_url: str) -> AsyncIterator[Listeners]:
    """Explain bids over a store."""
    app = web.Application()
    ExplainEndpoint(SECRET, RtbSettings(redis_url=store_url), lambda: None).add_to(app)
    async with TestServer(app) as server:
        yield Listeners((str(server.make_url("")).rstrip("/"),), SECRET)
