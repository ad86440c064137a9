"""
Each alert fires by the fault that it names, as a real process shows it, and not before.

`FAULT_OF` has a fault for each alert; an alert without one fails here.
"""

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import pytest

from loadtest.ports import free_ports
from segments.model.job import JobState
from segments.model.record import OptOutAction
from segments.store.published.signing_key import make_key
from segments.store.servers.connection import connect
from tests.deploy.faulty import Deployment, Scraped, deployment
from tests.deploy.scrapes import as_input
from tests.deploy.test_alerts import ALERTS, judge
from tests.edge.client import connected
from tests.edge.processes import Listener, listening
from tests.edge.small_store import bid_request, eventually, furnish
from tests.engines import Engine
from tests.segments.ingest.deliveries import PARTNER_ID, email_hashes, ids_of, text_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

PERSONS = 2_000
HASHES = email_hashes(PERSONS)
FILE = text_of(HASHES)
_ADD, _REMOVE = ("1", "add"), ("1", "remove")
_LASTS_S = 2.0
"""Between the two scrapes of a fault."""


async def _time_passes() -> None:
    await asyncio.sleep(_LASTS_S)


class Faulty(NamedTuple):
    """A process, and what happens to it between two scrapes, while the fault is there."""

    process: Scraped
    meanwhile: Callable[[], Awaitable[None]] = _time_passes


def _is(wanted: float) -> Callable[[float], bool]:
    return lambda value: value == wanted


Fault = Callable[[Deployment, AsyncExitStack], Awaitable[Faulty]]


async def _listener(world: Deployment, running: AsyncExitStack, **settings: Any) -> Listener:
    """Start a bid listener, and wait until it enriches."""
    async with connect(world.store.url) as redis:
        await furnish(redis)
    settings = {"redis_url": world.store.url, **settings}
    started = listening(**settings)
    listener = await running.enter_async_context(started)
    await eventually(listener.is_ready)
    return listener


def _of(listener: Listener) -> Scraped:
    return Scraped("rtb-listener", listener.admin_port)


async def _loader(world: Deployment, running: AsyncExitStack, **environment: str) -> Scraped:
    return await running.enter_async_context(
        world.process("loader", "SEGMENTS_LOADER_PORT", **environment)
    )


async def _loaded(world: Deployment, running: AsyncExitStack, **environment: str) -> Scraped:
    """Start a loader, and have it load a file."""
    loader = await _loader(world, running, **environment)
    await world.until_job(await world.deliver(FILE, _ADD), JobState.DONE)
    return loader


async def store_is_lost(world: Deployment, running: AsyncExitStack) -> Faulty:
    listener = _of(await _listener(world, running))
    world.store.kill()
    await listener.until("rtb_enriching", _is(0))
    return Faulty(listener)


async def store_was_never_there(world: Deployment, running: AsyncExitStack) -> Faulty:
    world.store.kill()
    listener = await running.enter_async_context(listening(redis_url=world.store.url))
    return Faulty(_of(listener))


async def right_is_missing(world: Deployment, running: AsyncExitStack) -> Faulty:
    ask = world.store.ask
    ask("ACL SETUSER", "bids", "reset", "on", ">secret", "~*", "&*", "+@all")
    running.callback(ask, "ACL DELUSER", "bids")
    listener = await _listener(
        world, running, redis_url=world.store.tcp_url.replace("//", "//bids:secret@")
    )
    ask("ACL SETUSER", "bids", "-hmget", "-hget")
    async with connected(listener.port) as client:
        await client.post(bid_request())
    await _of(listener).until("rtb_store_refused", bool)
    return Faulty(_of(listener))


async def hosts_give_too_little_time(world: Deployment, running: AsyncExitStack) -> Faulty:
    listener = await _listener(world, running, tmax_share=0.0001)

    async def bids() -> None:
        async with connected(listener.port) as client:
            for _ in range(200):
                await client.post(bid_request(tmax=1))

    await bids()  # a counter is first seen with its first value
    return Faulty(_of(listener), bids)


async def bug(world: Deployment, running: AsyncExitStack) -> Faulty:
    path = [str(Path(__file__).parent / "bug"), os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
        async with connect(world.store.url) as redis:
            await furnish(redis)
        listener = _of(await running.enter_async_context(listening(redis_url=world.store.url)))
    await listener.until("rtb_faults_total", bool)
    return Faulty(listener)


async def many_connections(world: Deployment, running: AsyncExitStack) -> Faulty:
    listener = await _listener(world, running)
    [worker] = listener.workers()
    used = len(list(Path(f"/proc/{worker}/fd").iterdir()))
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (10 * used, 10 * used))
    for _ in range(8 * used):
        client = await running.enter_async_context(connected(listener.port))
        await client.post(bid_request())
    return Faulty(_of(listener))


async def opt_out_waits(world: Deployment, running: AsyncExitStack) -> Faulty:
    loader = await _loader(world, running)
    world.store.ask("CONFIG SET", "min-replicas-to-write", 1)
    await world.say_no(*ids_of(HASHES[:1]))
    await loader.until("segments_opt_outs_waiting", _is(1))
    await loader.until("segments_store_is_well", _is(0))
    age = "segments_opt_outs_oldest_seconds"

    async def opt_out_grows_older() -> None:
        before_s = await loader.greatest(age) or 0
        await loader.until(age, lambda now_s: now_s > before_s)

    return Faulty(loader, opt_out_grows_older)


async def many_say_no(world: Deployment, running: AsyncExitStack) -> Faulty:
    loader = await _loader(world, running, SEGMENTS_FLOOD_IDS_PER_MINUTE="100")
    await world.say_no(*ids_of(HASHES[:500]))
    await loader.until("segments_opt_out_flood", _is(1))
    return Faulty(loader)


async def file_is_not_scrubbed(world: Deployment, running: AsyncExitStack) -> Faulty:
    loader = await _loaded(world, running, SEGMENTS_SCRUB_WITHIN_H="0.0005")
    (world.folder / "blobs").rename(world.folder / "gone")
    await world.say_no(*ids_of(HASHES[:1]), action=OptOutAction.ERASURE)
    await loader.until("segments_scrub_seconds_left", lambda left_s: left_s < 0)
    return Faulty(loader)


async def publisher_lost_the_store(world: Deployment, running: AsyncExitStack) -> Faulty:
    await _loader(world, running)
    key = world.folder / "publish.pem"
    make_key(key)
    place = world.folder / "published"
    place.mkdir()
    publisher = await running.enter_async_context(
        world.process(
            "publish", "SEGMENTS_PUBLISH_PORT", "--to", place.as_uri(), "--everything",
            SEGMENTS_PUBLISH_KEY_FILE=str(key),
        )
    )  # fmt: skip
    await publisher.until("segments_published_timestamp_seconds", bool)
    world.store.kill()
    await publisher.until("segments_publish_failures_total", bool)
    return Faulty(publisher)


async def store_is_emptied(world: Deployment, running: AsyncExitStack) -> Faulty:
    loader = await _loaded(world, running)
    world.store.ask("FLUSHALL")
    await loader.until("segments_store_came_back_empty", _is(1))
    return Faulty(loader)


async def part_of_the_store_is_lost(world: Deployment, running: AsyncExitStack) -> Faulty:
    loader = await _loaded(world, running)
    buckets = world.store.ask("KEYS", "seg:1:m:*")
    world.store.ask("DEL", *buckets[: len(buckets) * 3 // 4])
    await loader.restart()  # which looks at once
    await loader.until("segments_memberships_held", bool)
    return Faulty(loader)


async def store_has_little_memory(world: Deployment, running: AsyncExitStack) -> Faulty:
    used = next(
        int(line.partition(b":")[2])
        for line in world.store.ask("INFO", "memory").split(b"\r\n")
        if line.startswith(b"used_memory:")
    )
    world.store.ask("CONFIG SET", "maxmemory", used * 11 // 10)
    loader = await _loader(world, running)
    await loader.until("segments_store_memory_limit_bytes", bool)
    return Faulty(loader)


async def file_would_remove_all(world: Deployment, running: AsyncExitStack) -> Faulty:
    """A file of two hours ago waits behind it."""
    loader = await _loaded(world, running, SEGMENTS_REMOVE_BRAKE_SHARE="0.5")
    await world.until_job(await world.deliver(FILE, _REMOVE), JobState.HELD)
    await world.deliver(FILE, ("2", "add"), ago_s=7_200)
    await loader.until('segments_ledger_jobs{state="queued"', _is(1))
    return Faulty(loader)


async def files_are_refused(world: Deployment, running: AsyncExitStack) -> Faulty:
    loader = await _loaded(world, running)

    async def meanwhile() -> None:
        for n in range(7):
            job = await world.deliver(f"no hash {n}\n".encode(), _ADD)
            await world.until_job(job, JobState.FAILED)
        await loader.until('segments_ledger_jobs{state="failed"', _is(7))

    return Faulty(loader, meanwhile)


async def quota_is_used(world: Deployment, running: AsyncExitStack) -> Faulty:
    loader = await _loaded(world, running)
    await world.command("account", "quota", PARTNER_ID, "--audiences", "1")
    await loader.until("segments_quota_used_ratio", _is(1))
    return Faulty(loader)


async def opt_outs_are_not_in_force(world: Deployment, running: AsyncExitStack) -> Faulty:
    [port] = free_ports(1)
    await _loader(world, running)
    token = next(w for w in (await world.command("token", "create")).split() if "rtbp_" in w)
    api = await running.enter_async_context(
        world.process(
            "api", "SEGMENTS_API_ADMIN_PORT", SEGMENTS_API_HOST="127.0.0.1",
            SEGMENTS_API_PORT=str(port), SEGMENTS_OPT_OUT_WAIT_S="0",
        )
    )  # fmt: skip
    world.store.kill()

    async def opt_out() -> None:
        url = f"http://127.0.0.1:{port}/data-subject-requests"
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
            body = {"action": "RESTRICT", "emailHashes": HASHES[:1]}
            async with session.post(url, json=body) as answer:
                assert answer.status == 503

    await opt_out()  # a counter is first seen with its first value
    return Faulty(api, opt_out)


async def process_ended(world: Deployment, running: AsyncExitStack) -> Faulty:
    loader = await _loader(world, running)
    await loader.stop()
    return Faulty(loader)


FAULT_OF: Final[dict[str, Fault]] = {
    "RtbNotEnriching": store_is_lost,
    "RtbNotReady": store_was_never_there,
    "RtbStoreRefuses": right_is_missing,
    "RtbLate": hosts_give_too_little_time,
    "RtbFaults": bug,
    "RtbDescriptorsNearlyUsed": many_connections,
    "OptOutsWait": opt_out_waits,
    "OptOutFlood": many_say_no,
    "ScrubOverdue": file_is_not_scrubbed,
    "PublicationOld": publisher_lost_the_store,
    "StoreNotWritable": opt_out_waits,
    "StoreCameBackEmpty": store_is_emptied,
    "MembershipsMissing": part_of_the_store_is_lost,
    "StoreMemoryNearlyUsed": store_has_little_memory,
    "JobsWait": file_would_remove_all,
    "JobHeld": file_would_remove_all,
    "JobsFail": files_are_refused,
    "QuotaNearlyUsed": quota_is_used,
    "ApiErrors": opt_outs_are_not_in_force,
    "ProcessGone": process_ended,
}


@pytest.fixture
async def world(tmp_path: Path, valkey: Engine) -> AsyncIterator[Deployment]:
    async with deployment(tmp_path, valkey) as world:
        yield world


def test_each_alert_has_a_fault() -> None:
    assert list(FAULT_OF) == ALERTS


@pytest.mark.parametrize("fault", dict.fromkeys(FAULT_OF.values()), ids=lambda f: f.__name__)
async def test_alert_fires_by_its_fault(world: Deployment, tmp_path: Path, fault: Fault) -> None:
    async with AsyncExitStack() as running:
        process, meanwhile = await fault(world, running)
        first = await process.scrape()
        await meanwhile()
        then = await process.scrape()

    expected = [
        {"expr": f'max(ALERTS{{alertname="{alert}",alertstate="firing"}})', "eval_time": "50m",
         "exp_samples": [{"labels": "{}", "value": 1}]}
        for alert, of in FAULT_OF.items()
        if of is fault
    ]  # fmt: skip
    case = {
        "interval": "1m",
        "input_series": as_input(first, then),
        "promql_expr_test": expected,
    }
    judge(tmp_path, [case])
