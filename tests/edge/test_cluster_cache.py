"""
A worker that keeps what the nodes of a Redis Cluster have said, while slots move and nodes go.

Whoever has said no is asked for at once, and must not be shown; also where the slot has
moved since the worker asked, and the node that it asked tells nothing.
"""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from segments.model.identity import IdentifierKind, id_of_email_hash
from segments.model.record import OptOutAction
from segments.projection.opt_outs import record_opt_out
from segments.store.cache_lease import lease_ms
from segments.store.keys import CACHING, bucket_key, bucket_of
from segments.store.servers.masters import tell_clients
from tests.cluster import TestCluster, in_thread, until_true
from tests.edge.client import Client, connected
from tests.edge.cluster_store import MEMBERS, PERSONS, Checking, ClusterService, checked, furnished
from tests.edge.small_store import bid_request, eventually
from tests.engines import Engine

pytestmark = pytest.mark.xdist_group("cluster")  # six servers are enough at a time

PATIENT: dict[str, Any] = {"cache_bytes": 1_000_000, "cache_lease_ms": 1000}
"""On a busy machine a node may well take longer to answer than a lease is long."""

ROOM_BYTES = 60_000


@pytest.fixture
async def world(cluster: TestCluster, tmp_path: Path) -> AsyncIterator[ClusterService]:
    async with furnished(cluster, tmp_path) as world:
        yield world


async def test_every_node_is_kept_of_and_writers_wait(world: ClusterService) -> None:
    async with checked(world, **PATIENT) as checking:
        counts = checking.counts
        await eventually(lambda: counts.hits > len(PERSONS))
        before = counts.hits
        await checking.rounds(2)
        share = (counts.hits - before) / (2 * len(PERSONS))
        lease = await lease_ms(world.redis)
        entries = counts.entries
        tells = await tell_clients(world.redis)

    assert checking.outcomes.keys() == {"enriched", "opted_out"}
    assert share > 0.9
    assert entries == len(PERSONS)
    assert lease == 1001
    assert tells
    assert not await tell_clients(world.redis)
    assert counts.entries == counts.total_bytes == 0


async def test_opt_out_holds_on_the_first_bid_after_it_is_acknowledged(
    world: ClusterService,
) -> None:
    async with checked(world, **PATIENT) as checking, connected(checking.port) as client:
        for person in MEMBERS[:5]:
            await until_hit(checking, client, person)
            checking.saying_no.add(person)
            await world.says_no(person)
            checking.opted_out.add(person)

            assert await outcome(client, person) == "opted_out"


@pytest.mark.parametrize("has_moved", [False, True], ids=["by ASK", "by MOVED"])
async def test_opt_out_holds_where_the_node_that_was_asked_has_never_had_the_bucket(
    world: ClusterService, has_moved: bool
) -> None:
    """
    Nothing is kept of somebody of whom nothing is known, and nobody tells of the bucket that
    another node makes; while all others of the node that was asked go on to renew its lease.
    """
    source, target = (await in_thread(world.cluster.masters))[:2]
    stranger = await somebody_unknown(world, source)
    slot = world.slot_of(stranger)
    source_id, target_id = world.cluster.id_of(source), world.cluster.id_of(target)

    async def set_slot(node: Engine, *state: str) -> None:
        await in_thread(world.cluster.ask, node, "CLUSTER SETSLOT", slot, *state)

    # Shorter than a look at the cluster takes to come: nothing but the lease is to help.
    settings = {**PATIENT, "cache_lease_ms": 50}
    async with checked(world, **settings) as checking, connected(checking.port) as client:
        await until_hit(checking, client, stranger)
        await set_slot(target, "IMPORTING", source_id)
        await set_slot(source, "MIGRATING", target_id)
        if has_moved:
            await set_slot(target, "NODE", target_id)
            await set_slot(source, "NODE", target_id)
        await world.says_no(stranger)
        first = await outcome(client, stranger)
        await set_slot(target, "NODE", target_id)
        await set_slot(source, "NODE", target_id)
        hits = checking.counts.hits
        await eventually(lambda: checking.counts.hits > hits)

    assert first == "opted_out"


async def test_opt_outs_hold_while_slots_move_and_come_back(world: ClusterService) -> None:
    source, target = (await in_thread(world.cluster.masters))[:2]
    on_source = world.members_on(source)[:20]
    slots = sorted({world.slot_of(person) for person in on_source})

    async with checked(world, cache_bytes=1_000_000, cache_lease_ms=100) as checking:
        saying = asyncio.create_task(say_no_one_by_one(world, checking, on_source))
        for giver, taker in ((source, target), (target, source)):
            for slot in slots:
                await in_thread(world.cluster.move_slot, slot, giver, taker, None)
        told = await saying
        await checking.rounds(1)

    assert checking.outcomes.keys() == {"enriched", "opted_out"}
    assert told == len(on_source)
    assert checking.counts.hits > 0


async def test_opt_outs_hold_while_the_node_that_knew_who_caches_is_replaced(
    world: ClusterService,
) -> None:
    """
    And by a replica that has never heard of it.
    """
    cluster = world.cluster
    lost = await in_thread(cluster.owner_of, CACHING)
    [heir] = await in_thread(cluster.replicas_of, lost)
    theirs = set(world.persons_on(lost))
    on_others = [person for person in MEMBERS if person not in theirs][:30]

    await in_thread(cluster.cut_off, heir)
    async with checked(world, cache_bytes=1_000_000, cache_lease_ms=100) as checking:
        await in_thread(lost.kill)
        saying = asyncio.create_task(say_no_one_by_one(world, checking, on_others))
        await in_thread(
            until_true, lambda: cluster.ask(heir, "INFO", "replication")["role"] == "master"
        )

        async def is_known_again() -> bool:
            return await lease_ms(world.redis) == 101

        await eventually(is_known_again)
        hits = checking.counts.hits
        await eventually(lambda: checking.counts.hits > hits)
        await saying
        await checking.rounds(1)
        await in_thread(cluster.reconnect, heir)


async def test_node_that_does_not_tell_is_asked_each_time_and_the_others_are_not(
    world: ClusterService,
) -> None:
    silent = (await in_thread(world.cluster.masters))[0]
    theirs = set(world.persons_on(silent))

    async def allow(rule: str) -> None:
        await in_thread(world.cluster.ask, silent, "ACL", "SETUSER", "default", rule)

    await allow("-client|tracking")
    try:
        async with checked(world, **PATIENT) as checking:
            await checking.rounds(2)
            refusal, entries = checking.counts.refusal, checking.counts.entries
            await allow("+@all")
            await eventually(lambda: checking.counts.entries == len(PERSONS))
            await eventually(lambda: not checking.counts.refusal)
    finally:
        await allow("+@all")

    assert checking.outcomes.keys() == {"enriched", "opted_out"}
    assert refusal == "NOPERM"
    assert entries == len(PERSONS) - len(theirs)


async def test_room_is_divided_among_the_nodes(world: ClusterService) -> None:
    async with checked(world, cache_bytes=ROOM_BYTES, cache_lease_ms=1000) as checking:
        await checking.rounds(2)
        of_three_bytes = checking.counts.total_bytes
        node = await in_thread(world.cluster.add_node)
        await eventually(lambda: checking.counts.total_bytes <= ROOM_BYTES * 3 / 4)
        await checking.rounds(2)
        of_four_bytes = checking.counts.total_bytes
        await in_thread(world.cluster.remove_node, node)

    assert ROOM_BYTES * 0.8 < of_three_bytes <= ROOM_BYTES
    assert ROOM_BYTES * 0.6 < of_four_bytes <= ROOM_BYTES * 3 / 4  # the fourth has no slots
    assert checking.counts.evictions > 0


async def outcome(client: Client, person: str) -> str:
    return (await client.post(bid_request(person))).outcome


async def until_hit(checking: Checking, client: Client, person: str) -> None:
    """Bid until what is said of a person is kept, and the lease is fresh."""
    counts = checking.counts
    async with asyncio.timeout(10):
        while True:
            asked = counts.misses + counts.unleased + counts.shared
            await outcome(client, person)
            if counts.misses + counts.unleased + counts.shared == asked:
                return


async def say_no_one_by_one(world: ClusterService, checking: Checking, persons: list[str]) -> int:
    """Say no for one after the other, and bid at once; return how many were acknowledged."""
    told = 0
    async with connected(checking.port) as client:
        for person in persons:
            checking.saying_no.add(person)
            receipt = await record_opt_out(
                world.ledger,
                world.redis,
                OptOutAction.RESTRICT,
                [(IdentifierKind.EMAIL, id_of_email_hash(person))],
            )
            if receipt.waits_because:
                continue
            checking.opted_out.add(person)
            assert await outcome(client, person) in {"opted_out", "store_down"}
            told += 1
    return told


async def somebody_unknown(world: ClusterService, node: Engine) -> str:
    """Find a person of a node's slots whose bucket nobody is in."""
    known = {bucket_of(id_of_email_hash(person), world.meta.bucket_bits) for person in PERSONS}
    on_node = world.slots_on(node)
    for n in range(10_000):
        person = sha256(b"nobody-%d@example.com" % n).hexdigest()
        bucket = bucket_of(id_of_email_hash(person), world.meta.bucket_bits)
        if bucket not in known and world.slot_of(person) in on_node:
            assert not await world.redis.exists(bucket_key(bucket))
            return person
    raise AssertionError("everybody is known")
