"""The store that hosts' containers ask in these tests."""

from collections.abc import AsyncIterator

import pytest_asyncio

from segments.store.servers.connection import connect
from tests.edge.small_store import furnish
from tests.engines import Engine
from tests.hosts.hosted import Store


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def store(valkey_server: Engine) -> AsyncIterator[Store]:
    """A store of the embedded engine with a few persons in it."""
    valkey_server.reset()
    async with connect(valkey_server.url) as client:
        await furnish(client)
        yield Store(valkey_server, client)
