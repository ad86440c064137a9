"""`rtb-segments publish` as operators run it: a process over a ledger and a store, a bucket as its
target."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from loadtest.otlp import Collector, collector
from loadtest.ports import free_ports
from segments.files.published_place import NotThere, PublishedPlace
from segments.ledger import accounts, audiences, recipients
from segments.model.account import AccountKind
from segments.model.identity import IdentifierKind
from segments.model.record import Change, Membership, OptOutAction, Record
from segments.projection.catalog import publish_catalog
from segments.projection.opt_outs import record_opt_out
from segments.store.published.latest import (
    LATEST_NAME,
    MAX_BYTES,
    Keys,
    Latest,
    public_text,
    read,
)
from segments.store.published.signing_key import make_key
from segments.store.reader import read_catalog, read_meta, read_records
from segments.store.writer import Writer
from tests.commands import Started, start_command
from tests.engines import Engine
from tests.s3 import become, policy, s3_server, user_with
from tests.segments.follow.conftest import Link
from tests.segments.ingest.deliveries import ids_of
from tests.segments.upkeep.histories import HASHES, History

OPT_OUTS_S = 1.0
WITHIN_S = 20.0
A, B, C = ids_of(HASHES[:3])


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def taken() -> Iterator[Collector]:
    with collector() as taken:
        yield taken


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A bucket of its own; the environment has what opens it."""
    import boto3

    for name, value in {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"b{abs(hash(tmp_path))}"
    boto3.client("s3", endpoint_url=s3).create_bucket(Bucket=name)
    become(monkeypatch, user_with(s3, policy("service", name, "seg")))
    return f"s3://{name}/seg"


class Publishing:
    """A running publisher, and what its readers see."""

    def __init__(self, link: Link, url: str, port: int, trusted: Keys) -> None:
        self.link = link
        self.port = port
        self.place = PublishedPlace(url)
        self.trusted = trusted
        self.process: Started

    async def latest(self) -> Latest | None:
        try:
            return read(await self.place.read(LATEST_NAME, MAX_BYTES), self.trusted)
        except NotThere:
            return None

    async def until_latest(self, condition: Any) -> Latest:
        """Wait for a LATEST that fulfils the condition."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                latest = await self.latest()
                if latest is not None and condition(latest):
                    return latest
                await asyncio.sleep(0.05)

    async def metrics(self) -> dict[str, float]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}/metrics") as answer,
        ):
            text = await answer.text()
        return {
            sample.name + "".join(sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def unready(self) -> str:
        """Return why it is not ready; empty if it is."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}/health/ready") as answer,
        ):
            return "" if answer.status == 200 else await answer.text()

    async def until(self, is_it: Callable[[str], bool]) -> None:
        """Wait for a reason of not being ready, or for none."""
        async with asyncio.timeout(WITHIN_S):
            while not is_it(await self.unready()):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)


@pytest.fixture
async def granted(history: History) -> dict[str, int]:
    """Audiences of two partners, both granted to a bidder; three persons are in both."""
    async with history.ledger.begin() as conn:
        other = await accounts.add_account(
            conn, AccountKind.ADVERTISER, "other", "other", now_s=1.0
        )
        bidder = await recipients.add_recipient(conn, "bidder", now_s=1.0)
        made = {}
        for partner in (history.partner, other):
            made[partner.public_id] = (
                await audiences.find_or_create_audience(conn, partner, partner, "1", "1", now_s=1.0)
            ).id
            await recipients.grant(conn, bidder, partner)
            bidder = await recipients.recipient(conn, "bidder")
    await publish_catalog(history.ledger, history.redis)
    writer = Writer(history.redis, await read_meta(history.redis))
    await writer.merge([A, B, C], [Change(n, is_add=True) for n in made.values()])
    return made


@asynccontextmanager
async def publishing(
    link: Link, store: Engine, url: str, *options: str, **environment: str
) -> AsyncIterator[Publishing]:
    """Run a publisher; its log is `publish.log`."""
    key_file = link.tmp_path / "key.pem"
    key = make_key(key_file) if not key_file.exists() else None
    if key is not None:
        (link.tmp_path / "key.pub").write_text(public_text(key.public_key()))
    trusted = Keys.of([(link.tmp_path / "key.pub").read_text()])
    [port] = free_ports(1)
    running = Publishing(link, url, port, trusted)
    env = {
        **os.environ,
        "SEGMENTS_DATA_DIR": str(link.history.settings.data_dir),
        "SEGMENTS_REDIS_URL": store.url,
        "SEGMENTS_PUBLISH_KEY_FILE": str(key_file),
        "SEGMENTS_PUBLISH_PORT": str(port),
        "SEGMENTS_PUBLISH_OPT_OUTS_S": str(OPT_OUTS_S),
        "SEGMENTS_PUBLISH_CHANGES_S": "1",
        **environment,
    }
    with (link.tmp_path / "publish.log").open("ab") as log:
        running.process = await start_command(
            "publish", "--to", url, *options, env=env, cwd=link.tmp_path, output=log
        )
    try:
        yield running
    finally:
        if running.process.returncode is None:
            os.kill(running.process.pid, signal.SIGKILL)
            await running.process.wait()


async def say_no(history: History, *ids: bytes) -> None:
    said = [(IdentifierKind.EMAIL, id_) for id_ in ids]
    await record_opt_out(history.ledger, history.redis, OptOutAction.RESTRICT, said, None)  # type: ignore[arg-type]


async def test_publisher_runs_from_its_first_full_to_its_successor(
    link: Link,
    valkey: Engine,
    bucket: str,
    granted: dict[str, int],
    redis: Redis,
    taken: Collector,
) -> None:
    link.url = bucket
    history, ours = link.history, granted[link.history.partner.public_id]
    async with publishing(link, valkey, bucket, "--recipient", "bidder") as running:
        first = await running.until_latest(lambda _: True)
        follower = link.follower(running.trusted)
        await follower.look()

        # A no is published in time.
        began_s = time.monotonic()
        await say_no(history, A)
        after_no = await running.until_latest(lambda latest: latest.opt_outs == 1)
        assert time.monotonic() - began_s < OPT_OUTS_S + 3
        await follower.look()
        meta = await read_meta(link.pod)
        [no, yes] = await read_records(link.pod, meta, [A, B])
        assert bool(no.opt_outs)
        assert [m.audience_id for m in yes.memberships] == sorted(granted.values())
        assert after_no.full == first.full

        # A revoked grant leaves with the next increment.
        async with history.ledger.begin() as conn:
            bidder = await recipients.recipient(conn, "bidder")
            await recipients.revoke(conn, bidder, await accounts.partner(conn, "other"))
        await running.until_latest(lambda latest: latest.state > after_no.state)
        await follower.look()
        assert [each.id for each in (await read_catalog(link.pod)).audiences] == [ours]
        [yes] = await read_records(link.pod, meta, [B])
        assert yes == Record((), (Membership(ours),))
        at_last = await running.until_latest(lambda latest: latest.full.number > first.full.number)

        # The store is away: nothing is said, and that is. It comes back as another.
        before = await running.latest()
        valkey.kill()
        await running.until(lambda why: bool(why) and "nothing is published" not in why)
        failures = await running.metrics()
        assert failures["segments_publish_failures_totalstore"] >= 1
        assert await running.latest() == before
        valkey.start()
        await running.until(lambda why: not why)
        assert before is not None
        await running.until_latest(lambda latest: latest.full.number > at_last.full.number)

        # It is killed; persons change; the next goes on.
        os.kill(running.process.pid, signal.SIGKILL)
        await running.process.wait()
        writer = Writer(redis, await read_meta(redis))
        await writer.merge([C], [Change(ours, is_add=False)])
        before = await running.latest()
        assert before is not None
    async with publishing(
        link, valkey, bucket, "--recipient", "bidder", SEGMENTS_OTLP_URL=taken.url
    ) as running:
        after = await running.until_latest(lambda latest: latest.state > before.state)
        await say_no(history, B)
        await running.until_latest(lambda latest: latest.opt_outs == 2)
        await follower.look()
        [b, c] = await read_records(link.pod, meta, [B, C])
        assert (bool(b.opt_outs), c) == (True, Record())
        assert after.full == before.full
        metrics = await running.metrics()
        assert metrics["segments_published_opt_outs"] == 2
        assert time.time() - metrics["segments_published_timestamp_seconds"] < WITHIN_S
        assert metrics["segments_published_number"] > before.number

        os.kill(running.process.pid, signal.SIGTERM)
        async with asyncio.timeout(WITHIN_S):
            assert await running.process.wait() == 0

    # A collector has the same, to the last.
    sent = taken.metrics("publisher")
    [opt_outs] = sent["segments_published_opt_outs"].gauge.data_points
    [number] = sent["segments_published_number"].gauge.data_points
    assert opt_outs.as_double == 2
    assert number.as_double >= metrics["segments_published_number"]
    log = (link.tmp_path / "publish.log").read_text()
    assert "Traceback" not in log
    assert not any(id_.hex() in log for id_ in (A, B, C))
