"""Files that are loaded into a Redis Cluster, whose nodes may come and go."""

import asyncio
import logging
import time
from pathlib import Path

import numpy as np
import pytest

from segments.doors.live_audience.accept import accept
from segments.doors.live_audience.metadata import read_metadata
from segments.files.blobs import Blobs
from segments.ledger import accounts, jobs
from segments.ledger.database.engine import open_ledger, reading
from segments.loader.loader import Loader
from segments.model.account import AccountKind
from segments.model.job import JobState
from segments.model.record import EVERYONE, Change, OptOut, OptOutAction
from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.reader import read_catalog, read_meta, read_records
from segments.store.servers.connection import connect
from segments.store.writer import Matched, Writer
from segments.upkeep.rebuild import rebuild
from segments.upkeep.sweep import sweep_daily
from tests.cluster import TestCluster, in_thread
from tests.edge.small_store import eventually
from tests.segments.ingest.deliveries import (
    PARTNER_ID,
    as_json,
    email_hashes,
    ids_of,
    metadata_of,
    text_of,
)
from tests.segments.upkeep.histories import History

pytestmark = pytest.mark.xdist_group("cluster")  # six servers are enough at a time


async def test_what_a_failover_has_lost_of_a_file_is_written_again(
    cluster: TestCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its replica hung while the file was loaded; so the heir has nothing of it."""
    caplog.set_level(logging.WARNING)
    settings = Settings(data_dir=tmp_path / "data", expected_ids=100_000, redis_url=cluster.url)
    hashes = email_hashes(3000)
    content = text_of(hashes)
    lost = (await in_thread(cluster.masters))[2]
    heir = (await in_thread(cluster.replicas_of, lost))[0]
    stopping = asyncio.Event()
    async with open_ledger(settings.ledger_dsn) as ledger, connect(cluster.url) as redis:
        blobs = Blobs.open(settings.blobs_at)
        async with ledger.begin() as conn:
            await accounts.add_account(conn, AccountKind.ADVERTISER, PARTNER_ID, "Partner", now_s=0)
        loader = Loader(settings.loader_options, ledger, redis, blobs)
        await loader.catch_up()
        running = asyncio.create_task(loader.run(stopping))

        async def known() -> int:
            found = await read_records(redis, await read_meta(redis), ids_of(hashes))
            return sum(bool(record.memberships) for record in found)

        async def is_done() -> bool:
            async with reading(ledger) as conn:
                found = await jobs.job(conn, job.id)
            return found is not None and found.state is JobState.DONE

        async def is_whole() -> bool:
            return await is_done() and await known() == len(hashes)

        try:
            heir.freeze()
            job = await accept(
                ledger,
                blobs,
                read_metadata(as_json(metadata_of(content, records=len(hashes)))),
                [content],
                door="test",
                file_name="a.txt",
                now_s=time.time(),
            )
            await eventually(is_done)
            lost.kill()
            heir.thaw()

            await eventually(lambda: any("has lost job" in text for text in caplog.messages))
            await eventually(is_whole)

            swept = await sweep_daily(ledger, redis, blobs, time.time)
            assert swept is None or swept[0].unreadable == 0
        finally:
            heir.thaw()
            stopping.set()
            await running

        await rebuild(loader._tools, settings.expected_ids, settle_s=0)
        assert await known() == len(hashes)


async def test_rebuilt_cluster_is_the_lost_one_byte_for_byte(
    cluster: TestCluster, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path / "data", expected_ids=10_000, redis_url=cluster.url)
    async with open_ledger(settings.ledger_dsn) as ledger, connect(cluster.url) as redis:
        history = History(settings, ledger, redis, Blobs.open(settings.blobs_at), seed=3)
        await history.begin()
        await history.happen_all(files=3)
        lost, lost_catalog = await history.dump(), await read_catalog(redis)
        for master in await in_thread(cluster.masters):
            await in_thread(cluster.ask, master, "FLUSHALL")

        done = await rebuild(history.tools, settings.expected_ids, settle_s=0)

        async with reading(ledger) as conn:
            assert done.jobs == len(await jobs.jobs(conn, 100))
        assert await history.dump() == lost
        assert await read_catalog(redis) == lost_catalog


async def test_who_is_known_and_may_be_used_is_counted_on_all_nodes(cluster: TestCluster) -> None:
    ids = ids_of(email_hashes(300))
    async with connect(cluster.url) as redis:
        writer = Writer(redis, await prepare(redis, 10_000))
        await writer.merge(ids[:200], [Change(1, is_add=True)])
        await writer.opt_out(ids[150:220], OptOut(EVERYONE, OptOutAction.RESTRICT))

        matched = await writer.match(np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16), [1])

    assert matched == Matched(unique=300, known=220, usable=150)
