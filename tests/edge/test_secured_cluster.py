"""
A worker on a Redis Cluster whose nodes demand a password, and on one that speaks TLS only.

Of the two engines only Debian's redis-server is built with TLS.
"""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.cluster import TestCluster, in_thread, running_cluster, until_true
from tests.edge.client import connected
from tests.edge.cluster_store import (
    OPTED_OUT,
    PERSONS,
    SHOWN,
    ClusterService,
    checked,
    furnished,
)
from tests.edge.processes import Listener, listening
from tests.edge.small_store import added_data, bid_request, eventually, started
from tests.tls import TestCa

pytestmark = pytest.mark.xdist_group("cluster")  # six servers are enough at a time

PASSWORD = "se:cr/et@nodes"  # an operator writes it as a URL has it


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> TestCa:
    return TestCa.in_folder(tmp_path_factory.mktemp("tls"))


TLS = "password and TLS"


@pytest.fixture(scope="module", params=["password", pytest.param(TLS, marks=pytest.mark.long)])
def secured_server(request: pytest.FixtureRequest, ca: TestCa) -> Iterator[TestCluster]:
    if request.param == "password":
        with running_cluster("valkey", password=PASSWORD) as cluster:
            yield cluster
    else:
        with running_cluster("redis", password=PASSWORD, ca=ca) as cluster:
            yield cluster


@pytest.fixture
def secured(secured_server: TestCluster) -> TestCluster:
    secured_server.heal()
    return secured_server


@pytest.fixture
async def world(secured: TestCluster, tmp_path: Path) -> AsyncIterator[ClusterService]:
    async with furnished(secured, tmp_path) as world:
        yield world


async def test_slots_that_move_and_a_lost_master_are_followed_as_without(
    world: ClusterService,
) -> None:
    cluster = world.cluster
    lost, source, target = await in_thread(cluster.masters)
    slot = world.slot_of(world.persons_on(source)[0])
    concerned = set(world.persons_on(lost))
    [heir] = await in_thread(cluster.replicas_of, lost)

    async with checked(world) as checking:
        await in_thread(cluster.move_slot, slot, source, target, None)
        await checking.rounds(1)
        moved = dict(checking.outcomes)
        await in_thread(lost.kill)
        await in_thread(
            until_true, lambda: cluster.ask(heir, "INFO", "replication")["role"] == "master"
        )
        lookup = checking.service.worker.bids.lookup
        await eventually(lambda: checking.service.is_up and not lookup.message)
        await checking.rounds(1)  # bids asked before that pass through yet
        recovered = checking.answers
        passed = checking.passed_since(0, concerned.__contains__)
        await checking.rounds(2)

    assert moved.keys() == {"enriched", "opted_out"}
    assert passed == checking.passed_since(0, lambda _: True)
    assert checking.answers > recovered


@pytest.mark.parametrize(
    ("login", "code"),
    [
        pytest.param(":another@", "WRONGPASS", id="another password"),
        pytest.param("", "NOAUTH", id="no password"),
    ],
)
async def test_worker_without_the_password_passes_through_and_says_why(
    world: ClusterService, login: str, code: str
) -> None:
    url = re.sub("//.*@", f"//{login}", world.cluster.url)

    async with started(url) as service, connected(service.port) as client:
        lookup = service.worker.bids.lookup
        await eventually(lambda: code in lookup.message)
        body = bid_request()
        answer = await client.post(body)

    assert (answer.outcome, answer.body) == ("store_down", body)


@pytest.mark.parametrize("secured_server", [TLS], indirect=True)
@pytest.mark.long
async def test_nodes_whose_certificate_is_of_nobody_known_are_not_asked(
    world: ClusterService, tmp_path: Path
) -> None:
    assert world.cluster.ca is not None
    stranger = TestCa.in_folder(tmp_path / "stranger")
    url = world.cluster.url.replace(str(world.cluster.ca.bundle), str(stranger.bundle))

    async with started(url) as service, connected(service.port) as client:
        lookup = service.worker.bids.lookup
        await eventually(lambda: "SSLCertVerificationError" in lookup.message)
        body = bid_request()
        answer = await client.post(body)

    assert (answer.outcome, answer.body) == ("store_down", body)


async def test_listener_goes_on_when_a_master_is_killed(world: ClusterService) -> None:
    cluster = world.cluster
    lost = (await in_thread(cluster.masters))[0]
    [heir] = await in_thread(cluster.replicas_of, lost)
    theirs = world.members_on(lost)
    told = set(OPTED_OUT)

    async with listening(redis_url=cluster.url, workers=2) as listener:
        await eventually(listener.is_ready)
        before = await ask_everybody(listener, told)
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
    assert before == after == {"enriched", "opted_out"}
    assert PASSWORD not in "".join(listener.log)


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
