"""A long day in the documented topology: much happens to it, and no bid is wrong."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from loadtest.soak.shared import Count
from tests.cluster import in_thread, until_true
from tests.deploy.day import IDS, Day
from tests.deploy.topology import Topology

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


@pytest.fixture
async def day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Day]:
    topology = Topology(tmp_path, IDS)
    for name, value in topology.login_of_bucket.items():
        monkeypatch.setenv(name, value)  # the seed is ours
    connector = aiohttp.TCPConnector(ssl=topology.ca.client())
    async with topology.running(), aiohttp.ClientSession(connector=connector) as session:
        day = Day(topology, session)
        await day.begin()
        yield day


async def test_day_of_deliveries_opt_outs_a_roll_a_failover_and_losses_has_no_wrong_bid(
    day: Day,
) -> None:
    topology = day.topology
    async with day.bidding():
        # An opt-out, a file by SFTP, an erasure, an opt-out, a file through the bucket.
        await day.change(5)
        day.judge()

        await _roll(day)
        day.judge()

        await _fail_over(day)
        day.judge()

        await _lose_bucket(day)
        await _lose_ledger(day)
        day.judge()

        await _empty_and_rebuild(day)
        await day.change(3)
        await day.right(500)
        day.judge()

        refused = topology.store.refused()
        assert await topology.run("doctor")  # which tries what it may not
    day.judge()

    assert refused == set()
    assert day.answers[200] > 100
    assert day.shared.total(Count.RIGHT) > 2_000


async def _roll(day: Day) -> None:
    """Each process in turn, as docs/upgrade.md has it; persons change meanwhile."""
    topology = day.topology
    changing = asyncio.create_task(day.change(3))
    await topology.loader.restart()
    for replica in topology.doors:
        await replica.restart()
    await changing
    assert await topology.sftp.stop(signal.SIGTERM) == 0
    await topology.sftp.start()
    for listener in topology.listeners:
        await listener.restart()
    await day.change()


async def _fail_over(day: Day) -> None:
    """The master dies after an acknowledgement, and comes back as a replica."""
    store = day.topology.store
    master = store.master()
    await day.change()
    day.doors_are_well = False
    async with day.broken():
        await in_thread(master.kill)
        await in_thread(until_true, lambda: store.master() is not master)
        await day.change()
    await in_thread(master.start)
    await in_thread(until_true, lambda: store.is_replica(master))
    day.doors_are_well = True
    await day.right(300)


async def _lose_bucket(day: Day) -> None:
    """A file waits, an opt-out does not."""
    await in_thread(day.topology.lose_bucket)
    for replica in day.topology.doors:
        await replica.until(503, "?strict")
    await day.change()
    await in_thread(day.topology.find_bucket)
    for process in (day.topology.loader, *day.topology.doors):
        await process.until(200, "?strict")
    await day.change()


async def _lose_ledger(day: Day) -> None:
    """The doors say that they are away; bids go on."""
    day.doors_are_well = False
    await in_thread(day.topology.postgres.stop)
    opted_out, _ = await day.opt_out(["0" * 63 + "1"])
    listed, _ = await day.list_deliveries()
    assert (opted_out, listed) == (503, 503)
    await day.right(300)
    await in_thread(day.topology.postgres.start)
    for process in (day.topology.loader, *day.topology.doors):
        await process.until(200, "?strict")
    day.doors_are_well = True
    await day.change()


async def _empty_and_rebuild(day: Day) -> None:
    """All of the store is gone; the opt-outs come back first, the rest by `rebuild`."""
    store = day.topology.store
    async with day.broken(is_emptied=True):
        await in_thread(store.master().ask, "FLUSHALL")
        for listener in day.topology.listeners:
            await listener.until(503, "?strict")
        await day.topology.run("rebuild", "--yes")
