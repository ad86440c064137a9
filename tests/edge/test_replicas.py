"""
A worker that reads from the replicas of a Redis Cluster as well (`RTB_READ_REPLICAS`).

Which nodes were asked is read from them: on a replica bids alone send HGET, but for the check
of the listener's permission, which names the first bucket (`RECORD_COMMAND`).
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from segments.model.identity import IdentifierKind, id_of_email_hash
from segments.model.record import OptOutAction
from segments.projection.in_force import Receipt
from segments.projection.opt_outs import record_opt_out
from segments.store.keys import bucket_key, slot_of
from tests.cluster import TestCluster, in_thread, until_true
from tests.edge.cluster_store import ClusterService, checked, furnished
from tests.edge.small_store import eventually
from tests.engines import Engine

pytestmark = pytest.mark.xdist_group("cluster")  # six servers are enough at a time


@pytest.fixture
async def world(cluster: TestCluster, tmp_path: Path) -> AsyncIterator[ClusterService]:
    async with furnished(cluster, tmp_path) as world:
        yield world


class Reads:
    """How many lookups each of some nodes has answered since it was last asked this."""

    def __init__(self, cluster: TestCluster, nodes: list[Engine]) -> None:
        self._cluster = cluster
        self._nodes = nodes
        self._before = self._counts()

    def since(self) -> list[int]:
        before, self._before = self._before, self._counts()
        return [now - then for now, then in zip(self._before, before, strict=True)]

    def _counts(self) -> list[int]:
        return [
            self._cluster.ask(node, "INFO", "commandstats")
            .get("cmdstat_hget", {"calls": 0})
            .get("calls")
            for node in self._nodes
        ]


async def until_asked(cluster: TestCluster, node: Engine) -> None:
    """Wait until bids reach a node."""
    reads = await in_thread(Reads, cluster, [node])

    async def is_asked() -> bool:
        [asked] = await in_thread(reads.since)
        return bool(asked)

    await eventually(is_asked)


async def masters_of(world: ClusterService) -> list[Engine]:
    """Return the masters; last of all the one whose replica answers checks of permission, too."""
    checked_slot = slot_of(bucket_key(0))
    masters = await in_thread(world.cluster.masters)
    return sorted(masters, key=lambda master: checked_slot in world.slots_on(master))


async def replicas_of_all(world: ClusterService) -> list[Engine]:
    return [
        replica
        for master in await masters_of(world)
        for replica in await in_thread(world.cluster.replicas_of, master)
    ]


async def test_bids_reach_replicas_if_told_so_and_only_then(world: ClusterService) -> None:
    masters = await masters_of(world)
    replicas = await replicas_of_all(world)
    reads = await in_thread(Reads, world.cluster, [*masters, *replicas])

    async with checked(world, read_replicas=True) as checking:
        await checking.rounds(2)
    with_replicas = await in_thread(reads.since)
    async with checked(world) as alone:
        pass
    without = await in_thread(reads.since)

    assert checking.outcomes.keys() == alone.outcomes.keys() == {"enriched", "opted_out"}
    assert len(replicas) == 3
    # In turn: of the persons of each master half are asked of its replica.
    for master, replica in zip(with_replicas[:3], with_replicas[3:], strict=True):
        assert 0.8 < replica / master < 1.25
    assert without[3:] == [0, 0, 0]


async def test_replica_that_is_gone_is_missed_by_nobody(world: ClusterService) -> None:
    """
    Whoever was on the way to it is asked of its master.
    """
    gone = (await replicas_of_all(world))[0]

    async with checked(world, read_replicas=True) as checking:
        await in_thread(gone.kill)
        await checking.rounds(2)
        gone.start()  # not in a thread: with the thread that started it, a server ends as well
        await in_thread(until_true, world.cluster.is_healthy)
        await until_asked(world.cluster, gone)

    assert checking.outcomes.keys() == {"enriched", "opted_out"}


async def test_replica_that_hangs_is_waited_for_no_longer_than_a_probe(
    world: ClusterService,
) -> None:
    hanging = (await replicas_of_all(world))[0]

    async with checked(world, read_replicas=True) as checking:
        hanging.freeze()
        try:
            await checking.rounds(2)
        finally:
            hanging.thaw()

    assert checking.outcomes.keys() == {"enriched", "opted_out"}


async def test_replica_that_has_lost_its_master_is_not_asked(world: ClusterService) -> None:
    """
    It serves on, and what it serves is as old as its last word from the master.
    """
    cluster = world.cluster
    master = (await masters_of(world))[0]
    [cut_off] = await in_thread(cluster.replicas_of, master)
    person = world.members_on(master)[0]

    async with checked(world, read_replicas=True) as checking:
        await in_thread(cluster.cut_off, cut_off)
        reads = await in_thread(Reads, cluster, [cut_off])

        async def is_left_alone() -> bool:
            await checking.rounds(1)
            [asked] = await in_thread(reads.since)
            return not asked

        await eventually(is_left_alone)
        checking.saying_no.add(person)
        await world.says_no(person)
        checking.opted_out.add(person)
        await checking.rounds(2)
        stale = await in_thread(reads.since)
        await in_thread(cluster.reconnect, cut_off)
        await in_thread(until_true, lambda: cluster.is_linked(cut_off))

    assert stale == [0]
    assert checking.outcomes.keys() == {"enriched", "opted_out"}


async def test_replica_that_has_changed_its_master_answers_for_the_new_one_alone(
    world: ClusterService,
) -> None:
    cluster = world.cluster
    left, joined = (await masters_of(world))[:2]
    [replica] = await in_thread(cluster.replicas_of, left)

    async with checked(world, read_replicas=True) as checking:
        joined_id, left_id = cluster.id_of(joined), cluster.id_of(left)
        await in_thread(cluster.ask, replica, "CLUSTER REPLICATE", joined_id)
        await in_thread(until_true, lambda: cluster.is_linked(replica))
        await until_asked(cluster, replica)
        await checking.rounds(1)
        await in_thread(cluster.ask, replica, "CLUSTER REPLICATE", left_id)
        await in_thread(until_true, cluster.is_healthy)

    assert checking.outcomes.keys() <= {"enriched", "opted_out", "store_down"}


async def test_heir_is_not_asked_before_it_is_caught_up(world: ClusterService) -> None:
    """
    Neither as a replica, the moment before, nor as a master.
    """
    cluster = world.cluster
    lost = (await masters_of(world))[0]
    [heir] = await in_thread(cluster.replicas_of, lost)
    concerned = set(world.persons_on(lost))
    saying_no = world.members_on(lost)[:10]

    async with checked(world, read_replicas=True) as checking:
        checking.saying_no.update(saying_no)
        await in_thread(lost.kill)
        await in_thread(
            until_true, lambda: cluster.ask(heir, "INFO", "replication")["role"] == "master"
        )
        for person in saying_no:
            await world.says_no(person)
            checking.opted_out.add(person)
        await checking.rounds(3)
        passed = checking.passed_since(0, lambda person: person not in concerned)

    assert not passed
    assert checking.outcomes["enriched"]


async def test_opt_out_that_a_replica_lacks_is_not_acknowledged_where_replicas_are_read(
    world: ClusterService,
) -> None:
    cluster = world.cluster
    master = (await masters_of(world))[0]
    [hanging] = await in_thread(cluster.replicas_of, master)
    one, other = world.members_on(master)[:2]

    async def receipt(person: str) -> Receipt:
        return await record_opt_out(
            world.ledger,
            world.redis,
            OptOutAction.RESTRICT,
            [(IdentifierKind.EMAIL, id_of_email_hash(person))],
        )

    async with checked(world, read_replicas=True) as checking:
        checking.saying_no.update((one, other))
        await until_asked(cluster, hanging)
        hanging.freeze()
        try:
            lacking = await receipt(one)
        finally:
            hanging.thaw()
        in_force = await receipt(other)
        checking.opted_out.add(other)
        await checking.rounds(2)

    assert "1 of 1 replicas" in lacking.waits_because
    assert in_force.waits_because == ""
