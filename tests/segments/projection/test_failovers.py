"""An opt-out that comes while a server of the store hangs and another one takes its place."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.files.blobs import Blobs
from segments.ledger.database.engine import open_ledger
from segments.loader.loader import Loader
from segments.model.identity import Id, IdentifierKind
from segments.model.record import EVERYONE, OptOut, OptOutAction
from segments.projection.opt_outs import record_opt_out
from segments.settings import Settings
from segments.store.keys import CACHING, META, bucket_key, bucket_of, slot_of
from segments.store.reader import TRUST_COMMAND, caught_up_runs, read_meta, read_records
from segments.store.servers.connection import connect
from segments.store.servers.masters import sure_pipeline
from tests.cluster import TestCluster, in_thread, run_of, until_true
from tests.edge.small_store import eventually
from tests.engines import Engine
from tests.segments.ingest.deliveries import email_hashes, ids_of
from tests.sentinel import watched

pytestmark = pytest.mark.xdist_group("cluster")  # so many servers are enough at a time

IDS = ids_of(email_hashes(200))
NO = OptOut(EVERYONE, OptOutAction.RESTRICT)


class TwoSides(NamedTuple):
    """A ledger; the store, as a loader that keeps it up sees it, and as a REST process does."""

    ledger: AsyncEngine
    loaders: Redis
    doors: Redis

    async def says_no(self, id_: Id) -> str:
        receipt = await record_opt_out(
            self.ledger, self.doors, OptOutAction.RESTRICT, [(IdentifierKind.EMAIL, id_)]
        )
        return receipt.waits_because

    async def trusts(self, server: Engine) -> bool:
        """Tell whether bids are answered from a server."""
        run = await in_thread(run_of, server)
        try:
            reply = await self.loaders.execute_command(*TRUST_COMMAND)  # type: ignore[no-untyped-call] # redis-py
        except RedisError:  # nobody is the master yet
            return False
        return run in caught_up_runs(reply)

    async def opt_outs(self, ids: list[Id]) -> list[tuple[OptOut, ...]]:
        found = await read_records(self.loaders, await read_meta(self.loaders), ids)
        return [record.opt_outs for record in found]


@asynccontextmanager
async def world_of(url: str, folder: Path) -> AsyncIterator[TwoSides]:
    settings = Settings(data_dir=folder / "data", expected_ids=100_000, redis_url=url)
    stopping = asyncio.Event()
    async with (
        open_ledger(settings.ledger_dsn) as ledger,
        connect(url) as loaders,
        connect(url) as doors,
    ):
        loader = Loader(settings.loader_options, ledger, loaders, Blobs.open(settings.blobs_at))
        await loader.catch_up()
        running = asyncio.create_task(loader.run(stopping))
        try:
            yield TwoSides(ledger, loaders, doors)
        finally:
            stopping.set()
            await running


async def says_no_while_replaced(world: TwoSides, hung: Engine, heir: Engine, id_: Id) -> str:
    """
    Say no when the heir of who hangs is trusted already, and let the latter wake up then.

    The REST process has a connection to it, and does not know of the heir yet.
    """
    try:
        hung.freeze()
        await in_thread(until_true, lambda: b"role:master" in heir.ask("INFO"))
        await eventually(lambda: world.trusts(heir))

        saying = asyncio.create_task(world.says_no(id_))
        # The heir has it by now, or it waits for whoever hangs.
        await asyncio.wait([saying], timeout=0.5)
    finally:
        hung.thaw()
    return await saying


async def test_a_no_is_not_left_with_a_master_that_wakes_up_replaced(
    cluster: TestCluster, tmp_path: Path
) -> None:
    """
    It answers whatever stands in its connections before it learns of its heir.

    Nobody would bring the opt-out in again: the heir had all there were, and is trusted.
    """
    async with world_of(cluster.url, tmp_path) as world:
        owners = [await in_thread(cluster.owner_of, key) for key in (META, CACHING)]
        hung = next(node for node in await in_thread(cluster.masters) if node not in owners)
        heir = (await in_thread(cluster.replicas_of, hung))[0]
        slots = await in_thread(cluster.slots_of, hung)
        bits = (await read_meta(world.doors)).bucket_bits
        first, second, *_ = [
            id_ for id_ in IDS if slot_of(bucket_key(bucket_of(id_, bits))) in slots
        ]
        assert await world.says_no(first) == ""

        assert await says_no_while_replaced(world, hung, heir, second) == ""

        assert await world.opt_outs([first, second]) == [(NO,), (NO,)]


async def test_a_no_is_not_left_with_a_master_that_sentinels_have_replaced(
    several_engine_name: str, tmp_path: Path
) -> None:
    """It takes itself for the master until they tell it."""
    with watched(several_engine_name) as servers:
        hung, heir = servers.servers
        async with world_of(servers.url, tmp_path) as world:
            assert await world.says_no(IDS[0]) == ""

            assert await says_no_while_replaced(world, hung, heir, IDS[1]) == ""

            assert await world.opt_outs(IDS[:2]) == [(NO,), (NO,)]


async def test_a_connection_that_was_in_use_while_its_master_was_replaced_is_not_used_again(
    several_engine_name: str,
) -> None:
    """redis-py hangs up on idle ones alone, and a former master answers for a while."""
    with watched(several_engine_name) as servers:
        hung, heir = servers.servers
        async with connect(servers.url) as client:
            pool = client.connection_pool
            in_use = await pool.get_connection()  # type: ignore[no-untyped-call] # redis-py
            hung.freeze()

            async def is_replaced() -> bool:
                try:
                    await sure_pipeline(client)
                except RedisError:  # nobody is the master yet
                    return False
                return bool(pool.master_address == ("127.0.0.1", int(heir.port)))  # type: ignore[attr-defined] # of those that Sentinels name

            await eventually(is_replaced)
            hung.thaw()

            await pool.release(in_use)
            found = await client.info("server")

            assert str(found["tcp_port"]) == heir.port
