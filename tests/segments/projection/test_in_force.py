"""Nothing is acknowledged that is not in force, and what was asked is not lost either."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ClusterDownError, ResponseError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.blobs import Blobs
from segments.ingest.tools import Tools
from segments.ledger.database.engine import open_ledger, reading
from segments.ledger.privacy import opt_outs
from segments.ledger.privacy.opt_outs import SAME_FOR_S, OptOutSource, Request
from segments.ledger.revision import raise_revision, revision
from segments.loader.catch_up import CatchUp
from segments.loader.metrics import Metrics
from segments.model.identity import Id, IdentifierKind
from segments.model.record import EVERYONE, OptOut, OptOutAction, Record
from segments.projection.applied_opt_outs import apply_opt_outs
from segments.projection.catalog import catch_up as publish
from segments.projection.in_force import (
    let_catalog_be_in_force,
    put_into_force,
    until_applied,
    withdraw_from_bids,
)
from segments.settings import Settings
from segments.store.catalog_lease import DEFAULT_LEASE_MS
from segments.store.keys import META, bucket_key, bucket_of, slot_of
from segments.store.meta import prepare
from segments.store.reader import read_meta, read_records, read_version
from segments.store.servers.connection import connect
from tests.cluster import TestCluster, in_thread, until_true
from tests.cut_off import cut_off
from tests.engines import Engine
from tests.refusals import REFUSALS, code_of_a_write

ADA, BOB = (Id(bytes([number]) * 16) for number in (1, 2))
RESTRICTED = Record((OptOut(EVERYONE, OptOutAction.RESTRICT),))
BY_TOKEN = OptOutSource(token_id=1)


@pytest.fixture
async def redis(engine: Engine) -> AsyncIterator[Redis]:
    """A client of a store that is laid out and empty."""
    async with connect(engine.url, retry=None) as client:
        await prepare(client, 10_000)
        yield client


async def record(
    ledger: AsyncEngine,
    *persons: tuple[Id, ...],
    action: OptOutAction = OptOutAction.RESTRICT,
    source: OptOutSource = BY_TOKEN,
    now_s: float | None = None,
    jurisdiction: str | None = None,
) -> list[Request]:
    async with ledger.begin() as conn:
        return await opt_outs.record(
            conn,
            action,
            [[(IdentifierKind.EMAIL, id_) for id_ in ids] for ids in persons],
            jurisdiction=jurisdiction,
            source=source,
            now_s=time.time() if now_s is None else now_s,
        )


async def record_of(redis: Redis, id_: Id) -> Record:
    return (await read_records(redis, await read_meta(redis), [id_]))[0]


async def catch_up(ledger: AsyncEngine, redis: Redis) -> int:
    return await apply_opt_outs(ledger, redis, await read_meta(redis))


# ---------------------------------------------------------------- a store that does not write


@pytest.mark.parametrize("code", REFUSALS)
async def test_store_that_reads_and_does_not_write_is_not_acknowledged(
    settings: Settings, redis: Redis, engine: Engine, code: str
) -> None:
    async with open_ledger(settings.ledger_dsn) as ledger:
        with REFUSALS[code](engine):
            assert code_of_a_write(engine) == code
            receipt = await put_into_force(ledger, redis, await record(ledger, (ADA,)), wait_s=0.2)
            assert await record_of(redis, ADA) == Record(), "it reads, and goes on being asked"
        assert await catch_up(ledger, redis) == 1

    assert receipt.waits_because
    assert ADA.hex() not in receipt.waits_because
    assert await record_of(redis, ADA) == RESTRICTED


async def test_same_request_again_is_the_first_and_is_in_force_as_soon_as_it_can_be(
    ledger: AsyncEngine, valkey: Engine
) -> None:
    async with connect(valkey.url, retry=None) as redis:
        await prepare(redis, 10_000)
        with REFUSALS["OOM"](valkey):
            first = await put_into_force(ledger, redis, await record(ledger, (ADA, BOB)), wait_s=0)
        again = await put_into_force(ledger, redis, await record(ledger, (BOB, ADA)), wait_s=0.5)

        assert first.waits_because
        assert again == (first.transaction_ids, "")
        assert await record_of(redis, ADA) == RESTRICTED
        assert (await read_meta(redis)).opt_outs == 1


@pytest.mark.xdist_group("cluster")  # six servers are enough at a time
@pytest.mark.parametrize("is_whole_down", [False, True], ids=["one slot", "the whole cluster"])
async def test_slot_of_a_cluster_that_refuses_is_not_acknowledged(
    ledger: AsyncEngine, cluster: TestCluster, is_whole_down: bool
) -> None:
    """CLUSTERDOWN: nobody has the slot, and with full coverage asked for no other is served."""
    async with connect(cluster.url) as redis:
        await prepare(redis, 10_000)
        bucket_bits = (await read_meta(redis)).bucket_bits
        of_meta = await in_thread(cluster.owner_of, META)
        ids = [Id(bytes([number]) * 16) for number in range(0, 256, 32)]
        owners = [await in_thread(cluster.owner_of, key_of(id_, bucket_bits)) for id_ in ids]
        refused = ids[next(n for n, owner in enumerate(owners) if owner is not of_meta)]
        key = key_of(refused, bucket_bits)
        with without_slot(cluster, key, asks_for_full_coverage=is_whole_down) as owner:
            said = await in_thread(said_to, owner, key)
            receipt = await put_into_force(
                ledger, redis, await record(ledger, (refused,)), wait_s=3
            )
        again = await put_into_force(ledger, redis, await record(ledger, (refused,)), wait_s=10)

        assert said.startswith("CLUSTERDOWN")
        assert receipt.waits_because
        assert again == (receipt.transaction_ids, "")
        assert await record_of(redis, refused) == RESTRICTED


def key_of(id_: Id, bucket_bits: int) -> bytes:
    return bucket_key(bucket_of(id_, bucket_bits))


def said_to(node: Engine, key: bytes) -> str:
    try:
        return str(node.ask("HGET", key, "f"))
    except ResponseError as error:
        return f"CLUSTERDOWN {error}" if isinstance(error, ClusterDownError) else str(error)


@contextmanager
def without_slot(
    cluster: TestCluster, key: bytes, *, asks_for_full_coverage: bool
) -> Iterator[Engine]:
    """Take a key's slot from its master, and let no other have it."""
    owner = cluster.owner_of(key)
    slot = slot_of(key)
    coverage = "yes" if asks_for_full_coverage else "no"
    for node in cluster.nodes:
        node.ask("CONFIG", "SET", "cluster-require-full-coverage", coverage)
        node.ask("CLUSTER", "DELSLOTS", slot)
    until_true(lambda: "CLUSTERDOWN" in said_to(owner, key))
    try:
        yield owner
    finally:
        owner.ask("CLUSTER", "ADDSLOTS", slot)
        for node in cluster.nodes:
            node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
        until_true(cluster.is_healthy)


# ---------------------------------------------------------------- a loader does it for us


async def test_process_that_lost_the_store_acknowledges_what_a_loader_has_applied(
    ledger: AsyncEngine, valkey: Engine
) -> None:
    async with connect(valkey.url, retry=None) as redis:
        await prepare(redis, 10_000)
        requests = await record(ledger, (ADA,))
        asking = asyncio.create_task(put_into_force(ledger, cut_off(redis), requests, wait_s=10))
        await asyncio.wait({asking}, timeout=0.2)
        waited = not asking.done()
        await catch_up(ledger, redis)

        assert (await asking).waits_because == ""
        assert waited


async def test_store_that_hangs_is_not_waited_for_beyond_the_time_that_there_is(
    ledger: AsyncEngine, valkey: Engine
) -> None:
    async with connect(valkey.url, retry=None, socket_timeout=30) as redis:
        await prepare(redis, 10_000)
        requests = await record(ledger, (ADA,))
        valkey.freeze()
        began_s = time.monotonic()
        receipt = await put_into_force(ledger, redis, requests, wait_s=0.3)
        took_s = time.monotonic() - began_s
        valkey.thaw()

        assert receipt.waits_because == "the store does not answer"
        assert took_s < 5
        assert await until_applied(ledger, receipt.transaction_ids, 10), "the attempt goes on"


async def test_attempt_that_nobody_waits_for_ends_with_its_client(
    ledger: AsyncEngine, valkey: Engine
) -> None:
    """It would connect anew, and nobody hang up."""
    async with connect(valkey.url, socket_timeout=30) as redis:
        await prepare(redis, 10_000)
        valkey.freeze()
        await put_into_force(ledger, redis, await record(ledger, (ADA,)), wait_s=0.1)
    valkey.thaw()

    assert asyncio.all_tasks() == {asyncio.current_task()}


async def change_catalog(ledger: AsyncEngine) -> None:
    async with ledger.begin() as conn:
        await raise_revision(conn)


@pytest.fixture
async def nowhere(tmp_path: Path) -> AsyncIterator[Redis]:
    """A client of a store that is not in reach."""
    async with connect(f"unix://{tmp_path}/nowhere", retry=None) as client:
        yield client


async def test_process_that_lost_the_store_acknowledges_a_catalog_that_a_loader_published(
    ledger: AsyncEngine, valkey: Engine, settings: Settings, nowhere: Redis
) -> None:
    """As of an audience that is deleted by a door; the leases on catalogs are over by then."""
    async with connect(valkey.url, retry=None) as redis:
        tools = Tools(ledger, redis, Blobs.open(settings.blobs_at), settings.spool_dir, time.time)
        loader = CatchUp(tools, settings.expected_ids, Metrics(), every_s=0.1)
        await loader.catch_up()
        await change_catalog(ledger)
        began_s = time.monotonic()
        asking = asyncio.create_task(withdraw_from_bids(ledger, nowhere, wait_s=20))
        stopping = asyncio.Event()
        running = asyncio.create_task(loader.run(asyncio.Event(), stopping))
        why = await asking
        took_s = time.monotonic() - began_s
        stopping.set()
        await running

        assert why == ""
        assert took_s >= DEFAULT_LEASE_MS / 1000
        async with reading(ledger) as conn:
            assert await read_version(redis) == await revision(conn)


async def test_process_that_lost_the_store_says_so_where_no_loader_helps(
    ledger: AsyncEngine, nowhere: Redis
) -> None:
    await change_catalog(ledger)

    why = await withdraw_from_bids(ledger, nowhere, wait_s=0.2)

    assert why == "the store can't be written (ConnectionError)"


async def test_catalog_in_force_is_no_help_to_what_was_changed_behind_it(
    ledger: AsyncEngine, valkey: Engine, settings: Settings, nowhere: Redis
) -> None:
    async with connect(valkey.url, retry=None) as redis:
        await publish(ledger, redis, settings.expected_ids)
        await let_catalog_be_in_force(ledger, redis)
    assert await withdraw_from_bids(ledger, nowhere, wait_s=0) == ""
    await change_catalog(ledger)

    assert await withdraw_from_bids(ledger, nowhere, wait_s=0.2) != ""


# ---------------------------------------------------------------- what is the same request


async def test_request_is_the_same_until_it_has_been_in_force_for_an_hour(
    ledger: AsyncEngine,
) -> None:
    now_s = time.time()
    (first,) = await record(ledger, (ADA,), now_s=now_s - 10 * SAME_FOR_S)
    (waiting,) = await record(ledger, (ADA,), now_s=now_s)
    async with ledger.begin() as conn:
        await opt_outs.mark_applied(conn, [first.seq], now_s)
    (in_force,) = await record(ledger, (ADA,), now_s=now_s + SAME_FOR_S - 1)
    (later,) = await record(ledger, (ADA,), now_s=now_s + SAME_FOR_S)

    assert [first.is_new, waiting.is_new, in_force.is_new, later.is_new] == [
        True,
        False,
        False,
        True,
    ]
    assert first.transaction_id == waiting.transaction_id == in_force.transaction_id
    assert later.transaction_id != first.transaction_id


async def test_request_that_differs_in_anything_that_counts_is_another(ledger: AsyncEngine) -> None:
    (first,) = await record(ledger, (ADA,))
    others = [
        await record(ledger, (ADA, BOB)),
        await record(ledger, (BOB,)),
        await record(ledger, (ADA,), action=OptOutAction.ERASURE),
        await record(ledger, (ADA,), source=OptOutSource(token_id=2)),
        await record(ledger, (ADA,), source=OptOutSource(key_id=1)),
        await record(ledger, (ADA,), jurisdiction="EU_PRIVACY"),
    ]

    assert first.is_new
    assert all(request.is_new for (request,) in others)


async def test_list_of_persons_may_name_some_who_were_recorded_before(ledger: AsyncEngine) -> None:
    (bob,) = await record(ledger, (BOB,))

    both = await record(ledger, (ADA,), (BOB,), (ADA,))

    assert [request.ids for request in both] == [(ADA,), (BOB,), (ADA,)]
    assert [request.is_new for request in both] == [True, False, True]
    assert both[1].transaction_id == bob.transaction_id
    assert both[0] == both[2]
    async with reading(ledger) as conn:
        assert await opt_outs.last_seq(conn) == 2
