"""A stranger's first hour: start, load, bid, restrict, restart, lose the store."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.service import Answer, Service, bid_request, processes_of
from tests.engines import Engine
from tests.refusals import REFUSALS

ALICE, BOB, CAROL = (bid_request(f"{name}@example.com") for name in ("alice", "bob", "carol"))
PEOPLE = ["alice@example.com", "bob@example.com"]


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    service = Service(tmp_path)
    yield service
    for pid in processes_of(service):
        os.kill(pid, signal.SIGKILL)


async def deliver(service: Service) -> None:
    await service.command("account", "add", "--kind", "advertiser", "--id", "p1", "--name", "P One")
    await service.command("recipient", "add", "dsp-a", "--partner", "p1")
    await service.load(PEOPLE, [("123", "add"), ("456", "add")], "p1")


async def test_a_strangers_first_hour(service: Service) -> None:
    """
    Somebody delivered is enriched, for whom that is granted, until she says no.
    """
    async with service.running():
        await deliver(service)
        await service.command("recipient", "add", "dsp-b")

        alice = await service.until("enriched", ALICE, "dsp-a")
        carol = await service.bid(CAROL, "dsp-a")
        not_granted = await service.until("no_match", ALICE, "dsp-b")
        unknown = await service.bid(ALICE, "nobody")
        await service.command("restrict", "-", stdin=_id_of(ALICE))
        restricted = await service.bid(ALICE, "dsp-a")
        bob = await service.bid(BOB, "dsp-a")

    assert alice.segment_ids == {"other": ["9"], "p1": ["123", "456"]}
    assert carol.outcome == "no_match"
    assert not_granted.segment_ids == {"other": ["9"]}
    assert unknown.status == 404
    assert (restricted.outcome, bob.outcome) == ("opted_out", "enriched")


async def test_memberships_and_opt_outs_survive_a_restart(service: Service) -> None:
    async with service.running():
        await deliver(service)
        await service.command("erase", "-", stdin=_id_of(ALICE))

    async with service.running():
        alice = await service.bid(ALICE, "dsp-a")
        bob = await service.bid(BOB, "dsp-a")

    assert (alice.outcome, bob.outcome) == ("opted_out", "enriched")


async def test_opt_outs_survive_the_loss_of_the_store_and_a_second_load(service: Service) -> None:
    async with service.running():
        await deliver(service)
        await service.command("restrict", "-", stdin=_id_of(ALICE))

    shutil.rmtree(service.folder / "data" / "store")

    async with service.running(enriches=False):
        lost = await service.until("opted_out", ALICE, "dsp-a")
        reason = await service.reason()
        await service.load(PEOPLE, [("123", "add")], "p1")
        alice = await service.bid(ALICE, "dsp-a")
        bob = await service.until("enriched", BOB, "dsp-a")

    assert (lost.outcome, alice.outcome) == ("opted_out", "opted_out")
    assert "the store came back empty, whole or in part: run `rtb-segments rebuild`" in reason
    assert bob.segment_ids["p1"] == ["123"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_stop_leaves_no_process_behind(service: Service, number: signal.Signals) -> None:
    await service.start()
    await service.until_ready()

    status = await service.stop(number)

    assert status == 0, service.log.read_text()
    assert processes_of(service) == []


async def test_killed_service_leaves_no_process_behind_and_nothing_lost(service: Service) -> None:
    async with service.running():
        await deliver(service)
    await service.start()
    await service.until_ready()

    await service.stop(signal.SIGKILL)
    while processes_of(service):  # the kernel tells the children; they end in their own time
        pass

    async with service.running():
        assert (await service.bid(ALICE, "dsp-a")).outcome == "enriched"


async def test_store_that_takes_no_writes_keeps_no_bid_from_passing(
    tmp_path: Path, valkey: Engine
) -> None:
    """Also where the service begins with it, as after a restart on a full disk."""
    service = Service(tmp_path, SEGMENTS_REDIS_URL=valkey.url)
    async with service.running():
        await deliver(service)
    with REFUSALS["OOM"](valkey):
        await service.start()
        passed = await first_bid(service)
    await service.until_ready()
    enriched = await service.bid(ALICE, "dsp-a")
    status = await service.stop(signal.SIGTERM)
    log = service.log.read_text()

    assert (passed.status, passed.outcome) == (200, "store_down")
    assert (enriched.outcome, status) == ("enriched", 0)
    assert "OOM" in log
    assert "the parts start without it" in log
    assert "Traceback" not in log


async def first_bid(service: Service) -> Answer:
    """Ask until the bid listener answers."""
    async with asyncio.timeout(60):
        while True:
            assert service.process.returncode is None, service.log.read_text()
            try:
                return await service.bid(ALICE, "dsp-a")
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)


async def test_wrong_settings_refuse_to_start_with_a_line_each(tmp_path: Path) -> None:
    service = Service(tmp_path, SEGMENTS_EXPECTED_IDS="many", RTB_PORT="99999")

    said = await service.command("up", status=2)
    said_of_rtb = await service.command("serve", status=2)

    assert [line for line in said.splitlines() if "SEGMENTS_EXPECTED_IDS" in line]
    assert [line for line in said_of_rtb.splitlines() if "RTB_PORT" in line]


def _id_of(request: dict[str, object]) -> bytes:
    user = request["user"]
    assert isinstance(user, dict)
    return str(user["eids"][0]["uids"][0]["id"]).encode()
