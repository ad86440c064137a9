"""
A worker that keeps what the nodes of a Redis Cluster have said, while slots move and nodes go.

Whoever has said no is asked for at once, by every client, and must not be shown; also
where the slot has moved since the worker asked, and the node that it asked tells nothing.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from segments.store.caching import lease_ms
from tests.cluster import TestCluster
from tests.edge.cluster_world import PERSONS, World, checked, furnished
from tests.edge.world import eventually

pytestmark = pytest.mark.xdist_group("cluster")  # six servers are enough at a time

PATIENT: dict[str, Any] = {"cache_bytes": 1_000_000, "cache_lease_ms": 1000}
"""On a busy machine a node may well take longer to answer than a lease is long."""


@pytest.fixture
async def world(cluster: TestCluster, tmp_path: Path) -> AsyncIterator[World]:
    async with furnished(cluster, tmp_path) as world:
        yield world


async def test_every_node_is_kept_of_and_writers_wait(world: World) -> None:
    async with checked(world, **PATIENT) as checking:
        counts = checking.service.worker.bids.lookup.counts
        await eventually(lambda: counts.hits > len(PERSONS))
        before = counts.hits
        await checking.rounds(2)
        share = (counts.hits - before) / (2 * len(PERSONS))
        lease = await lease_ms(world.redis)
        kept = counts.entries

    assert checking.outcomes.keys() == {"enriched", "opted_out"}
    assert share > 0.9
    assert kept == len(PERSONS)
    assert lease == 1001
    assert counts.entries == counts.total_bytes == 0
