"""What bids are told while the store's ledger is an older copy of it."""

import pytest

from rtb.lookup.link import LookupFault
from segments.store.meta import mark_behind, unmark_behind
from segments.store.servers.connection import connect
from tests.cluster import TestCluster
from tests.edge.client import connected
from tests.edge.small_store import Service, bid_request, eventually, furnish, started
from tests.engines import Engine

BEHIND = "its last audience is 5, the store was told of 57"


def is_refused(service: Service) -> bool:
    return service.worker.bids.lookup.fault is LookupFault.LEDGER_BEHIND


async def bids_are_refused_while_it_is_behind(url: str, **settings: int) -> None:
    async with connect(url) as redis:
        await furnish(redis)
        async with started(url, **settings) as service, connected(service.port) as client:
            await eventually(lambda: service.is_up)
            before = await client.post(bid_request())
            await mark_behind(redis, BEHIND)
            await eventually(lambda: is_refused(service))
            meanwhile = await client.post(bid_request())
            says = service.worker.bids.lookup.message
            async with started(url) as late, connected(late.port) as other:  # knows no catalog
                await eventually(lambda: is_refused(late))
                blind = await other.post(bid_request())
                blind_counted = late.count("store_down", "ledger_behind")
            await unmark_behind(redis)
            await eventually(lambda: service.is_up)
            after = await client.post(bid_request())

    outcomes = [answer.outcome for answer in (before, meanwhile, blind, after)]
    assert outcomes == ["enriched", "store_down", "store_down", "enriched"]
    assert meanwhile.body == bid_request()
    assert (service.count("store_down", "ledger_behind"), blind_counted) == (1, 1)
    assert BEHIND in says
    assert "rtb-segments reconcile" in says


@pytest.mark.parametrize("cache_bytes", [0, 1_000_000], ids=["no cache", "near cache"])
async def test_bids_end_as_store_down_while_the_ledger_is_behind(
    engine: Engine, cache_bytes: int
) -> None:
    await bids_are_refused_while_it_is_behind(engine.url, cache_bytes=cache_bytes)


@pytest.mark.xdist_group("cluster")  # six servers are enough at a time
async def test_bids_of_all_nodes_of_a_cluster_do(cluster: TestCluster) -> None:
    await bids_are_refused_while_it_is_behind(cluster.url)
