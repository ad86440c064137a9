"""
A store that answers the bid listener's commands with errors.

Each is named, by its code and the command that it is to, wherever an operator looks: readiness,
metrics and the log's last line.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from redis.asyncio import Redis

from docs.make.redis_acl import KEYS, rights
from docs.make.store_commands import of_bids
from rtb.server.metrics.admin_port import Board
from rtb.server.metrics.layout import SEEN, Gauge
from segments.store.error_code import CURES
from segments.store.keys import VERSION
from segments.store.servers.connection import connect
from tests.cluster import TestCluster
from tests.docs.pages import ROOT, words_of
from tests.edge.client import connected
from tests.edge.small_store import (
    Service,
    bid_request,
    eventually,
    furnish,
    publish,
    started,
)
from tests.engines import Engine

_BIDS = of_bids()
BID_RIGHTS = (*KEYS, *rights(_BIDS.always))
CLUSTER_RIGHTS = rights(_BIDS.in_cluster)
CACHING_RIGHTS = rights(_BIDS.by_options - {"READONLY"})


async def give(client: Redis, *rights: str) -> None:
    await client.execute_command("ACL", "SETUSER", "bids", "reset", "on", ">open-sesame", *rights)  # type: ignore[no-untyped-call] # redis-py


def login(engine: Engine, password: str = "open-sesame") -> str:
    return f"redis://bids:{password}@127.0.0.1:{engine.port}/0"


OPERATIONS = ROOT / "docs" / "operations.md"


class Looked:
    """What an operator sees of a worker."""

    def __init__(self, service: Service, log: pytest.LogCaptureFixture) -> None:
        board = Board([service.counters])
        self.health = board.health()
        registry = CollectorRegistry()
        registry.register(board)
        self.metrics = generate_latest(registry).decode()
        self.records = [record for record in log.records if record.name.startswith("rtb")]
        self.lines = [record.getMessage() for record in self.records]

    def names(self, code: str, command: str) -> bool:
        said = "; ".join([*self.health.unready, *self.health.passing])
        return (
            not self.health.is_enriching
            and f"{code} to {command}" in said
            and f'rtb_store_refused{{code="{code}",command="{command}"}} 1.0' in self.metrics
            and self.records[-1].levelno == logging.WARNING
            and code in self.lines[-1]
            and any(f"{code} to {command}" in line for line in self.lines)
            and "sesame" not in "".join([said, self.metrics, *self.lines])
        )


@asynccontextmanager
async def with_user(client: Redis, *rights: str) -> AsyncIterator[None]:
    await furnish(client)
    await give(client, *rights)
    try:
        yield
    finally:
        await client.acl_deluser("bids")


async def test_rights_that_the_documentation_names_are_enough(
    engine: Engine, redis_client: Redis
) -> None:
    async with (
        with_user(redis_client, *BID_RIGHTS),
        started(login(engine)) as service,
        connected(service.port) as client,
    ):
        await eventually(lambda: service.is_up)
        answer = await client.post(bid_request())

    assert answer.outcome == "enriched"


async def test_near_cache_and_seen_filter_need_the_rights_that_the_documentation_names(
    engine: Engine, redis_client: Redis
) -> None:
    async with (
        with_user(redis_client, *BID_RIGHTS, *CACHING_RIGHTS),
        started(login(engine), cache_bytes=1 << 20, remember_seen=True) as service,
        connected(service.port) as client,
    ):
        await eventually(lambda: service.is_up)

        async def remembered() -> bool:
            await client.post(bid_request())
            return bool(service.counters.cells[SEEN])

        await eventually(remembered)
        assert service.worker.bids.lookup.counts.refusal == ""
        assert service.worker.bids.lookup.counts.hits


def test_documentation_names_the_rights_and_each_code() -> None:
    said = " ".join(OPERATIONS.read_text().split())

    assert f"ACL SETUSER bids on >PASSWORD {' '.join(BID_RIGHTS)} ```" in said
    assert f"`{' '.join(CLUSTER_RIGHTS)}`" in said
    assert f"`{' '.join(CACHING_RIGHTS)}`" in said
    assert sorted(words_of(OPERATIONS, "code")) == sorted(CURES)


@pytest.mark.parametrize("command", ["hget", "hmget", "get", "info"])
async def test_right_that_the_link_lacks_is_named(
    engine: Engine, redis_client: Redis, command: str, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A worker that can do all but HGET passes every bid through, and would look well.
    """
    caplog.set_level(logging.INFO)
    async with (
        with_user(redis_client, *BID_RIGHTS, f"-{command}"),
        started(login(engine)) as service,
        connected(service.port) as client,
    ):
        refused = command.upper()
        await eventually(lambda: Looked(service, caplog).names("NOPERM", refused))
        answer = await client.post(bid_request())
        assert (answer.outcome, answer.body) == ("store_down", bid_request())
        assert service.count("store_down", "noperm") == 1

        await give(redis_client, *BID_RIGHTS)
        await eventually(lambda: service.is_up)
        await eventually(lambda: Looked(service, caplog).health.is_enriching)
        assert "rtb_store_refused{" not in Looked(service, caplog).metrics


async def test_right_that_the_catalog_lacks_is_named(
    engine: Engine, redis_client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with (
        with_user(redis_client, *BID_RIGHTS, "-hvals"),
        started(login(engine)) as service,
        connected(service.port) as client,
    ):
        await eventually(lambda: Looked(service, caplog).names("NOPERM", "HVALS"))
        answer = await client.post(bid_request())

    assert (answer.outcome, answer.body) == ("store_down", bid_request())


@pytest.mark.parametrize("lacking", ["-subscribe", "resetchannels"])
async def test_catalog_is_looked_for_where_nobody_tells_of_it(
    engine: Engine, redis_client: Redis, lacking: str, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A user that may do everything may hear of nothing, unless it is given a channel as well.
    """
    async with (
        with_user(redis_client, *BID_RIGHTS, lacking),
        started(login(engine), catalog_lease_ms=400) as service,
        connected(service.port) as client,
    ):
        await eventually(lambda: 'code="NOPERM",command="' in Looked(service, caplog).metrics)
        await eventually(lambda: service.is_up)
        before = await client.post(bid_request())
        await publish(redis_client, 2, segment_ids=("7",))
        await eventually(lambda: service.counters.cells[Gauge.CATALOG_VERSION] == 2)
        after = await client.post(bid_request())

    said = [line for line in caplog.messages if "announces no changes" in line]
    assert 1 <= len(said) <= 2  # again, below a line that says that the store is connected
    assert all("NOPERM" in line for line in said)
    assert (before.outcome, after.outcome) == ("enriched", "enriched")
    assert before.body != after.body


async def test_right_that_is_taken_away_is_named_as_well(
    engine: Engine, redis_client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        with_user(redis_client, *BID_RIGHTS),
        started(login(engine)) as service,
        connected(service.port) as client,
    ):
        await eventually(lambda: service.is_up)
        await give(redis_client, *BID_RIGHTS, "-hget")
        answer = await client.post(bid_request())
        assert answer.outcome == "store_down"
        await eventually(lambda: Looked(service, caplog).names("NOPERM", "HGET"))


async def test_keys_that_may_not_be_read_are_named(
    engine: Engine, redis_client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    rights = [right for right in BID_RIGHTS if right != "~seg:1:*"]
    async with (
        with_user(redis_client, *rights, "~seg:1:meta", f"~{VERSION.decode()}", "~seg:1:fresh*"),
        started(login(engine)) as service,
    ):
        await eventually(lambda: Looked(service, caplog).names("NOPERM", "HGET"))


@pytest.mark.parametrize(
    ("password", "code", "command"),
    [
        pytest.param("bids:open-sesam@", "WRONGPASS", "AUTH", id="wrong password"),
        pytest.param("nobody:open-sesame@", "WRONGPASS", "AUTH", id="unknown user"),
        pytest.param("", "NOAUTH", "INFO", id="no password"),
    ],
)
async def test_login_that_is_refused_is_named(
    engine: Engine,
    redis_client: Redis,
    password: str,
    code: str,
    command: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await furnish(redis_client)
    await redis_client.config_set("requirepass", "another")
    try:
        async with (
            started(f"redis://{password}127.0.0.1:{engine.port}/0") as service,
            connected(service.port) as client,
        ):
            await eventually(lambda: Looked(service, caplog).names(code, command))
            answer = await client.post(bid_request())
            assert service.count("store_down", code.lower()) == 1
    finally:
        await redis_client.config_set("requirepass", "")

    assert (answer.outcome, answer.body) == ("store_down", bid_request())


@pytest.mark.xdist_group("cluster")  # six servers are enough at a time
@pytest.mark.parametrize(
    ("lacking", "named"),
    [
        ("-hget", "HGET"),
        ("-cluster|shards", "CLUSTER SHARDS"),
        ("-cluster|slots", "CLUSTER SLOTS"),
        ("-hmget", "HMGET"),
    ],
)
async def test_right_that_a_cluster_lacks_is_named(
    cluster: TestCluster, lacking: str, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with connect(cluster.url) as redis:
        await furnish(redis)
    rights = BID_RIGHTS + CLUSTER_RIGHTS
    for node in cluster.nodes:
        cluster.ask(node, "ACL", "SETUSER", "bids", "reset", "on", ">pw", *rights, lacking)
    try:
        url = cluster.url.replace("redis+cluster://", "redis+cluster://bids:pw@")
        async with started(url) as service, connected(service.port) as client:
            await eventually(lambda: Looked(service, caplog).names("NOPERM", named))
            answer = await client.post(bid_request())
            assert (answer.outcome, answer.body) == ("store_down", bid_request())

            for node in cluster.nodes:
                cluster.ask(node, "ACL", "SETUSER", "bids", *rights)
            await eventually(lambda: service.is_up)
            assert (await client.post(bid_request())).outcome == "enriched"
    finally:
        for node in cluster.nodes:
            cluster.ask(node, "ACL", "DELUSER", "bids")
