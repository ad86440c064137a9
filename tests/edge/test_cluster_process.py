"""`python -m rtb` as an operator runs it, with a cache, on a Cluster that demands a password."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import TestCluster, in_thread, running_cluster, until_true
from tests.edge.client import connected
from tests.edge.cluster_world import MEMBERS, OPTED_OUT, PERSONS, SHOWN, World, furnished
from tests.edge.processes import Listener, listening
from tests.edge.world import added_data, bid_request, eventually

pytestmark = pytest.mark.xdist_group("cluster")  # six servers are enough at a time


@pytest.fixture(scope="module")
def secured() -> Iterator[TestCluster]:
    with running_cluster("valkey", password="a secret") as cluster:
        yield cluster


@pytest.fixture
async def world(secured: TestCluster, tmp_path: Path) -> AsyncIterator[World]:
    async with furnished(secured, tmp_path) as world:
        yield world


async def ask_everybody(listener: Listener, told: set[str]) -> set[str]:
    """Bid for everybody once, hold each answer against what is known, and return how they ended."""
    outcomes = set()
    async with connected(listener.port) as client:
        for person in PERSONS:
            body = bid_request(person)
            answer = await client.post(body)
            outcomes.add(answer.outcome)
            if answer.outcome == "enriched":
                assert person not in told
                assert added_data(answer.body) == SHOWN
            else:
                assert answer.body == body
                assert answer.outcome == "store_down" or person in told
    return outcomes


async def test_listener_goes_on_when_a_master_is_killed(world: World) -> None:
    cluster = world.cluster
    lost = (await in_thread(cluster.masters))[0]
    [heir] = await in_thread(cluster.replicas_of, lost)
    theirs = [person for person in MEMBERS if person in world.persons_on(lost)]
    told = set(OPTED_OUT)
    settings: dict[str, Any] = {"workers": 2, "cache_bytes": 1_000_000, "cache_lease_ms": 1000}

    async with listening(redis_url=cluster.url, **settings) as listener:
        await eventually(listener.is_ready)

        async def is_kept() -> bool:
            assert await ask_everybody(listener, told) == {"enriched", "opted_out"}
            return await listener.metric('rtb_cache_events_total{event="hits"}') > len(PERSONS)

        await eventually(is_kept)
        workers = listener.workers()

        await in_thread(lost.kill)
        meanwhile = await ask_everybody(listener, told)
        await in_thread(
            until_true, lambda: cluster.ask(heir, "INFO", "replication")["role"] == "master"
        )

        async def is_well() -> bool:
            return await ask_everybody(listener, told) == {"enriched", "opted_out"}

        await eventually(is_well)
        for person in theirs[:3]:
            await world.says_no(person)
            told.add(person)
            async with connected(listener.port) as client:
                assert (await client.post(bid_request(person))).outcome == "opted_out"
        after = await ask_everybody(listener, told)

        assert listener.workers() == workers
        assert await listener.is_ready()

    assert "store_down" in meanwhile
    assert after == {"enriched", "opted_out"}
    assert "a secret" not in "".join(listener.log)
