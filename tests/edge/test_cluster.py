"""
A worker on a Redis Cluster that moves slots, loses masters and gains nodes while it serves.

What is passed through is passed through only for as long as the cluster had no master for
the person's slot, and until the loader had brought the opt-outs into the one that took its
place.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rtb.lookup.link import LookupFault
from rtb.server.metrics.admin_port import Board
from segments.ledger.privacy import opt_outs
from segments.loader.loader import EVERY_S
from segments.model.identity import Id, IdentifierKind, id_of_email_hash
from segments.model.record import OptOutAction, unpack
from segments.projection.in_force import until_applied
from segments.projection.opt_outs import record_opt_out
from segments.store.keys import META
from segments.store.reader import read_records
from tests.cluster import TestCluster, in_thread, until_true
from tests.edge.cluster_store import PERSONS, ClusterService, checked, furnished
from tests.edge.small_store import eventually
from tests.edge.test_lookup import linked

pytestmark = pytest.mark.xdist_group("cluster")  # six servers are enough at a time

PROBES_S = 2.0
"""What a worker and a loader may be late by: a look each, on a machine that has other work."""

MAX_AGE_S = 10.0
"""Ten looks of a loader: less than an operator would set, and enough for a busy machine."""


@pytest.fixture
async def world(cluster: TestCluster, tmp_path: Path) -> AsyncIterator[ClusterService]:
    async with furnished(cluster, tmp_path) as world:
        yield world


async def test_every_node_is_asked_and_every_answer_is_exact(world: ClusterService) -> None:
    async with checked(world) as checking:
        await checking.rounds(2)

    assert checking.outcomes.keys() == {"enriched", "opted_out"}


async def test_ids_of_one_question_are_found_wherever_they_lie(world: ClusterService) -> None:
    ids = tuple(id_of_email_hash(person) for person in PERSONS)
    async with checked(world) as checking:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        checking.service.worker.bids.lookup.ask(ids, answer.set_result)
        found = await answer

    expected = await read_records(world.redis, world.meta, ids)
    assert [unpack(record) for record in found] == expected


async def test_moving_slots_is_seen_by_nobody(world: ClusterService) -> None:
    source, target = (await in_thread(world.cluster.masters))[:2]
    slots = sorted({world.slot_of(person) for person in world.persons_on(source)})[:12]

    async with checked(world) as checking:
        for slot in slots:
            await in_thread(world.cluster.move_slot, slot, source, target, lambda: time.sleep(0.02))
            await checking.rounds(1)

    assert checking.outcomes.keys() == {"enriched", "opted_out"}
    assert len(slots) == 12


async def test_a_lost_master_is_missed_for_as_long_as_the_cluster_takes(
    world: ClusterService,
) -> None:
    cluster = world.cluster
    lost = (await in_thread(cluster.masters))[1]
    concerned = set(world.persons_on(lost))
    heir = (await in_thread(cluster.replicas_of, lost))[0]

    async with checked(world) as checking:
        killed_at_s = time.monotonic()
        await in_thread(lost.kill)
        board = Board([checking.service.counters])
        await eventually(lambda: not board.health().is_enriching)
        ill = board.health()
        await in_thread(
            until_true, lambda: cluster.ask(heir, "INFO", "replication")["role"] == "master"
        )
        back_at_s = time.monotonic()
        await asyncio.sleep(0)
        await eventually(
            lambda: (
                not checking.passed_since(time.monotonic() - 1, concerned.__contains__)
                and time.monotonic() > back_at_s + EVERY_S
            )
        )
        passed = checking.passed_since(killed_at_s, concerned.__contains__)
        await eventually(lambda: board.health().is_enriching)
        well = board.health()

    named = f"1 of 3 nodes are not asked: 127.0.0.1:{lost.port}, "
    assert passed
    assert ill.is_ready
    assert not ill.is_enriching
    assert named in ill.passing[0]
    assert well.is_enriching
    assert max(passed) - killed_at_s < (back_at_s - killed_at_s) + EVERY_S + PROBES_S
    assert not checking.passed_since(0, lambda person: person not in concerned)


async def test_who_says_no_while_a_master_is_replaced_is_not_shown_any_more(
    world: ClusterService,
) -> None:
    cluster = world.cluster
    lost = (await in_thread(cluster.masters))[0]
    heir = (await in_thread(cluster.replicas_of, lost))[0]
    concerned = world.members_on(lost)

    async with checked(world) as checking:
        checking.saying_no.update(concerned[:30])
        await in_thread(lost.kill)
        for person in concerned[:20]:
            receipt = await record_opt_out(
                world.ledger,
                world.redis,
                OptOutAction.RESTRICT,
                [(IdentifierKind.EMAIL, id_of_email_hash(person))],
            )
            if receipt.waits_because == "":
                checking.opted_out.add(person)
        await in_thread(
            until_true, lambda: cluster.ask(heir, "INFO", "replication")["role"] == "master"
        )
        checking.opted_out.update(concerned[:20])  # none is shown before all are in
        await checking.rounds(3)
        for person in concerned[20:30]:
            await world.says_no(person)
            checking.opted_out.add(person)
        await checking.rounds(1)


async def test_a_worker_that_is_told_of_replicas_alone_finds_their_masters(
    world: ClusterService,
) -> None:
    """
    As after failovers: those that its URL names were masters when it was written.
    """
    cluster = world.cluster
    masters = await in_thread(cluster.masters)
    ports = [(await in_thread(cluster.replicas_of, master))[0].port for master in masters]
    url = f"redis+cluster://{','.join(f'127.0.0.1:{port}' for port in ports)}"

    async with checked(world, redis_url=url) as checking:
        await checking.rounds(1)

    assert checking.outcomes.keys() == {"enriched", "opted_out"}


async def test_a_node_that_joins_and_one_that_leaves_are_seen_by_nobody(
    world: ClusterService,
) -> None:
    cluster = world.cluster
    source = (await in_thread(cluster.masters))[0]
    slots = sorted({world.slot_of(person) for person in world.persons_on(source)})[:6]

    async with checked(world) as checking:
        node = await in_thread(cluster.add_node)
        # Known, and caught up, before it gets anything.
        await asyncio.sleep(EVERY_S + PROBES_S)
        for slot in slots:
            await in_thread(cluster.move_slot, slot, source, node, None)
        await checking.rounds(1)
        for slot in slots:
            await in_thread(cluster.move_slot, slot, node, source, None)
        await checking.rounds(1)
        await in_thread(cluster.remove_node, node)
        await checking.rounds(1)

    assert checking.outcomes.keys() == {"enriched", "opted_out"}


async def test_master_that_takes_no_writes_is_not_asked_and_the_others_are(
    world: ClusterService,
) -> None:
    """
    What was said of its persons since can't be in it; the others' masters say that theirs is.
    """
    cluster = world.cluster
    masters = await in_thread(cluster.masters)
    refusing, well = masters[0], masters[1]
    there, elsewhere = (
        id_of_email_hash(world.members_on(master)[0]) for master in (refusing, well)
    )

    async with linked(cluster.url, opt_outs_max_age_s=3 * EVERY_S, probe_s=0.1) as link:

        async def answer(id_: Id) -> object:
            return await link.ask(id_)

        async def are_both_found() -> bool:
            return isinstance(await answer(there), list) and isinstance(
                await answer(elsewhere), list
            )

        async def is_stale() -> bool:
            return await answer(there) is LookupFault.OPT_OUTS_STALE

        await eventually(are_both_found)
        await in_thread(cluster.ask, refusing, "CONFIG", "SET", "min-replicas-to-write", 9)
        await eventually(is_stale)
        found = [await answer(elsewhere) for _ in range(10)]
        await in_thread(cluster.ask, refusing, "CONFIG", "SET", "min-replicas-to-write", 0)
        await eventually(are_both_found)

    assert all(isinstance(each, list) for each in found)


async def test_silent_master_is_not_asked_and_the_others_are(world: ClusterService) -> None:
    masters = await in_thread(world.cluster.masters)
    silent, well = masters[0], masters[1]
    there, elsewhere = (id_of_email_hash(world.members_on(master)[0]) for master in (silent, well))

    async with linked(world.cluster.url, silent_after_s=0.01, probe_s=60) as link:
        await in_thread(silent.freeze)
        first = link.ask(there)

        async def is_refused() -> bool:
            link.lookup.note_late()
            answer = link.ask(there)
            return answer.done() and await answer is LookupFault.STALLED

        await eventually(is_refused)
        found = await link.ask(elsewhere)
        await in_thread(silent.thaw)

        assert isinstance(found, list)
        assert isinstance(await first, list)
        assert isinstance(await link.ask(there), list)


@pytest.mark.parametrize("is_dead", [False, True], ids=["takes no writes", "is gone"])
async def test_opt_out_that_waits_for_one_master_makes_no_other_stale(
    world: ClusterService, is_dead: bool
) -> None:
    """
    A no of a person there can't be brought in; those of persons elsewhere are, by the loader.
    """
    cluster = world.cluster
    of_meta = await in_thread(cluster.owner_of, META)
    lost, well = [each for each in await in_thread(cluster.masters) if each is not of_meta]
    (there, no_there), (elsewhere, no_elsewhere) = (
        [id_of_email_hash(person) for person in world.members_on(master)[:2]]
        for master in (lost, well)
    )

    async with linked(cluster.url, opt_outs_max_age_s=MAX_AGE_S, probe_s=0.1) as link:

        async def are_found(*ids: Id) -> bool:
            return all([isinstance(await link.ask(id_), list) for id_ in ids])

        await eventually(lambda: are_found(there, elsewhere))
        if is_dead:
            for node in (*await in_thread(cluster.replicas_of, lost), lost):
                await in_thread(node.kill)
        else:
            await in_thread(cluster.ask, lost, "CONFIG", "SET", "min-replicas-to-write", 9)
        async with world.ledger.begin() as conn:
            requests = await opt_outs.record(
                conn,
                OptOutAction.RESTRICT,
                [[(IdentifierKind.EMAIL, id_)] for id_ in (no_there, no_elsewhere)],
                now_s=time.time(),
            )
        said_there, said_elsewhere = [[each.transaction_id] for each in requests]
        until_s = time.monotonic() + 1.5 * MAX_AGE_S
        while time.monotonic() < until_s:
            assert await link.ask(elsewhere) is not LookupFault.OPT_OUTS_STALE
            await asyncio.sleep(0.1)
        refused = await link.ask(there)
        is_in_force = await until_applied(world.ledger, said_elsewhere, 10)
        waits = not await until_applied(world.ledger, said_there, 0)
        if is_dead:
            await in_thread(cluster.heal_without_emptying)
        else:
            await in_thread(cluster.ask, lost, "CONFIG", "SET", "min-replicas-to-write", 0)
        assert await until_applied(world.ledger, said_there, 30)
        await eventually(lambda: are_found(there, elsewhere))
        records = await read_records(world.redis, world.meta, [no_there, no_elsewhere])

    assert refused is (LookupFault.UNREACHABLE if is_dead else LookupFault.OPT_OUTS_STALE)
    assert is_in_force
    assert waits
    assert all(record.opt_outs for record in records)
