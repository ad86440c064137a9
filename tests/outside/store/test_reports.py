"""What went wrong with the stores of others, by public reports, tried on ours."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from segments.files.base_connection import checked
from segments.model.refusal import Refusal
from segments.settings import Settings
from segments.store.embedded import EmbeddedStore
from segments.store.reader import StoreUnusable
from segments.store.servers.connection import connect
from tests.edge.client import connected
from tests.edge.small_store import bid_request, eventually, furnish, started
from tests.engines import Engine


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory with a short name: that of a socket has 107 bytes at most."""
    path = Path(tempfile.mkdtemp(prefix="seg-"))
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("place", ["tail", "head"])
async def test_nulls_that_a_power_cut_leaves_in_the_append_only_file_are_named_with_their_cure(
    data_dir: Path, place: str
) -> None:
    """
    A virtual machine that was shot left twelve of them, and its server never started again.

    https://github.com/vmware-archive/cf-redis-release/issues/71
    https://github.com/goauthentik/authentik/issues/11576
    """
    store = EmbeddedStore(data_dir)
    await store.start()
    async with connect(Settings(data_dir=data_dir, redis_url=None).store_url) as redis:
        await redis.set("name", "value")
        await store.stop()
        folder = data_dir / "store" / "appendonlydir"
        [log] = folder.glob("*.incr.aof")
        nulls = b"\0" * 12
        content = log.read_bytes()
        log.write_bytes(content + nulls if place == "tail" else nulls + content)

        with pytest.raises(StoreUnusable, match=rf"move {folder} away.*rtb-segments rebuild"):
            await store.start()
        folder.rename(data_dir / "damaged")
        try:
            await store.start()
            assert await redis.ping()
        finally:
            await store.stop()


async def test_user_that_may_do_everything_but_hear_enriches_all_the_same(
    engine: Engine, redis_client: Redis
) -> None:
    """
    `+@all ~*` names no channel, which was enough before Redis 7.

    https://github.com/redis/redis-py/issues/2707
    https://github.com/redis/redis/issues/12418
    """
    await furnish(redis_client)
    engine.ask("ACL SETUSER", "bids", "reset", "on", ">pw", "+@all", "~*")
    try:
        url = f"redis://bids:pw@127.0.0.1:{engine.port}/0"
        async with started(url) as service, connected(service.port) as client:
            await eventually(lambda: service.is_up)
            answer = await client.post(bid_request())
    finally:
        engine.ask("ACL DELUSER", "bids")

    assert answer.outcome == "enriched"


def test_option_that_obstore_panics_at_is_refused() -> None:
    """
    https://github.com/developmentseed/obstore/pull/755
    """
    with pytest.raises(Refusal, match="it is called allow_http"):
        checked("s3://bucket", {"aws_allow_http": "true"})
