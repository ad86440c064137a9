"""A catalog is taken over between two bids, never in the middle of one."""

import asyncio
from math import inf

from rtb.catalog import Catalog
from segments.model.catalog import CatalogSnapshot
from segments.store.reader import read_catalog
from segments.store.servers.connection import connect
from tests.edge.client import request
from tests.edge.small_store import bid_request, eventually, serving
from tests.engines import Engine


class Wire(asyncio.Transport):
    """Where a connection writes, with nobody at the other end."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        self.written += data

    def close(self) -> None:
        """Nothing to close."""


async def test_bid_that_came_before_the_first_catalog_is_not_judged_by_it(valkey: Engine) -> None:
    """
    Routed while nothing is known, and asked with the catalog that came in the same turn of
    the loop, it would be a person without segments: `no_match`, where `store_down` is true.
    """
    async with connect(valkey.url) as redis, serving(valkey.url) as service:
        worker = service.worker
        catalog = Catalog.from_snapshot(await read_catalog(redis), 0.0)
        worker.bids.adopt(Catalog.from_snapshot(CatalogSnapshot(0, (), (), ()), 0.0))
        worker.bids.is_blind = True
        worker.bids.catalog_until_s = -inf
        wire = Wire()
        connection = worker.site.connection()
        connection.connection_made(wire)

        connection.data_received(request(bid_request()))
        worker.bids.adopt(catalog)
        await eventually(lambda: bool(wire.written))
        connection.connection_lost(None)

    assert b"X-Enrich-Outcome: store_down" in wire.written
