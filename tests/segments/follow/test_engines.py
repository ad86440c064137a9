"""What is published of one engine is what rebuild makes of it, followed on the other."""

from collections.abc import AsyncIterator, Iterator
from random import Random

import pytest
from redis.asyncio import Redis

from segments.store.servers.connection import connect
from segments.upkeep.rebuild import rebuild
from tests.engines import ENGINES, Engine
from tests.segments.follow.conftest import Link


@pytest.fixture
async def redis(engine: Engine) -> AsyncIterator[Redis]:
    """The store that is published, once of each engine."""
    async with connect(engine.url) as client:
        yield client


@pytest.fixture(scope="session")
def pod_server(engine_name: str) -> Iterator[Engine]:
    """The other engine."""
    [other] = set(ENGINES) - {engine_name}
    engine = Engine(other, extra=["--appendonly", "no"])
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


@pytest.mark.parametrize("is_late", [False, True], ids=["steady", "late"])
async def test_followed_store_is_what_rebuild_makes_byte_for_byte_on_either_engine(
    link: Link, is_late: bool
) -> None:
    link.history.rng = Random(7)
    publisher, follower = link.publisher(), link.follower()
    for _ in range(3):
        await link.history.happen_all(files=1)
        await link.history.say_no()
        await publisher.step()
        if not is_late:
            await follower.look()
    await follower.look()

    followed = await link.followed()

    await rebuild(link.history.tools, link.history.settings.expected_ids, settle_s=0)
    assert followed == await link.history.dump()
