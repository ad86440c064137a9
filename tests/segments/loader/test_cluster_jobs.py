"""Files that are loaded into a Redis Cluster, whose nodes may come and go."""

import asyncio
import logging
import random
import re
import time
from pathlib import Path

import numpy as np
import pytest

from segments.doors.live_audience.accept import accept
from segments.doors.live_audience.metadata import read_metadata
from segments.files.blobs import Blobs
from segments.ledger import accounts, jobs
from segments.ledger.database.engine import open_ledger, reading
from segments.loader.fill import Fill
from segments.loader.loader import Loader
from segments.model.account import AccountKind
from segments.model.identity import IdentifierKind
from segments.model.job import JobState
from segments.model.record import EVERYONE, Change, OptOut, OptOutAction
from segments.projection.opt_outs import record_opt_out
from segments.settings import Settings
from segments.store.keys import JOBS, META
from segments.store.meta import prepare
from segments.store.reader import read_catalog, read_meta, read_records
from segments.store.servers.connection import connect
from segments.store.writer import Matched, Writer
from segments.upkeep.doctor.findings import Deployment
from segments.upkeep.doctor.store import look_at_store
from segments.upkeep.rebuild import rebuild
from segments.upkeep.sweep import sweep_daily
from tests.cluster import TestCluster, in_thread, run_of
from tests.edge.small_store import eventually
from tests.engines import Engine
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


MEMBERSHIPS = ("segments_memberships_expected", "segments_memberships_held")


async def test_node_that_was_emptied_is_told_of_and_made_anew_by_a_rebuild(
    cluster: TestCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The others hold the meta, and what they had; whoever said no is not loaded again."""
    settings = Settings(data_dir=tmp_path / "data", expected_ids=100_000, redis_url=cluster.url)
    deployment = Deployment(
        settings.ledger_dsn, cluster.url, cluster.url, False, 100_000, settings.blobs_at,
        settings.data_dir, None,
    )  # fmt: skip
    hashes = email_hashes(3000)
    content = text_of(hashes)
    async with open_ledger(settings.ledger_dsn) as ledger, connect(cluster.url) as redis:
        blobs = Blobs.open(settings.blobs_at)
        async with ledger.begin() as conn:
            await accounts.add_account(conn, AccountKind.ADVERTISER, PARTNER_ID, "Partner", now_s=0)
        loader = Loader(settings.loader_options, ledger, redis, blobs)
        fill = Fill(loader._tools, loader._metrics, random.Random(7))

        async def told() -> list[float]:
            await fill.look()
            registry = loader._metrics.registry
            return [registry.get_sample_value(name) or 0 for name in MEMBERSHIPS]

        await loader.catch_up()
        for id_ in ids_of(hashes[:30]):
            no = [(IdentifierKind.EMAIL, id_)]
            await record_opt_out(ledger, redis, OptOutAction.RESTRICT, no, None)
        metadata = read_metadata(as_json(metadata_of(content, records=len(hashes))))
        await accept(
            ledger, blobs, metadata, iter([content]), door="test", file_name="a.txt", now_s=0
        )
        job = await loader.claim()
        assert job is not None
        await loader.run_one(job, asyncio.Event())
        before = await told()
        is_unfilled_before = (await read_meta(redis)).is_unfilled

        holders = {(await in_thread(cluster.owner_of, key)).port for key in (META, JOBS)}
        emptied = next(n for n in await in_thread(cluster.masters) if n.port not in holders)
        await in_thread(emptied.ask, "FLUSHALL")
        after = await told()
        meta = await read_meta(redis)
        said = [each.what async for each in look_at_store(deployment, ledger)]
        records = await read_records(redis, meta, ids_of(hashes[:30]))
        first_calls = await in_thread(calls_of_scripts, emptied)
        await told()
        second_calls = await in_thread(calls_of_scripts, emptied)
        await in_thread(emptied.ask, "FLUSHALL")
        await told()
        emptied_again = await read_records(redis, meta, ids_of(hashes[:30]))
        await rebuild(loader._tools, 100_000, settle_s=0)
        rebuilt = await told()

        assert not is_unfilled_before
        assert meta.is_unfilled
        assert not (await read_meta(redis)).is_unfilled
    assert all(record.opt_outs for record in [*records, *emptied_again])
    assert second_calls == first_calls > 0  # a lost server gets them once, not each minute
    assert before[0] == after[0] == rebuilt[0] > 2900
    assert before[1] == pytest.approx(3000, rel=0.2)
    assert after[1] < 0.85 * before[1]
    assert rebuilt[1] == pytest.approx(3000, rel=0.2)
    assert any("1 of its servers came back empty" in line for line in said), said
    assert any("of the store's servers 1 lost" in line for line in caplog.messages)


def calls_of_scripts(node: Engine) -> int:
    """Count the scripts that a server has run."""
    said = node.ask("INFO", "commandstats").decode()
    return sum(int(calls) for calls in re.findall(r"cmdstat_eval\w*:calls=(\d+)", said))


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

        # A loader that has met these runs before meets its first failover with them.
        held = await redis.hget(JOBS.decode(), "runs")
        runs = {run_of(each) for each in await in_thread(cluster.masters)}
        assert set((held or b"").split()) == runs
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
