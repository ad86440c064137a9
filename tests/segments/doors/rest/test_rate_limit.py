from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.ledger_seed import Seeded
from tests.rest import Rest, serving


@pytest.fixture
async def slow(settings: Settings, ledger: AsyncEngine, valkey: Engine) -> AsyncIterator[Rest]:
    """Doors that take three requests at once, and one more each two seconds."""
    limited = settings.model_copy(update={"api_requests_per_s": 0.5, "api_requests_burst": 3})
    async with connect(valkey.url) as redis:
        await prepare(redis, limited.expected_ids)
        async with serving(limited, ledger, redis) as rest:
            yield rest


async def test_account_that_asks_too_often_is_told_when_to_come_again(
    slow: Rest, seeded: Seeded
) -> None:
    async with slow.acting_for(seeded.shop) as shop, slow.acting_for(seeded.agency) as agency:
        answers = [await shop.ask("GET", "/audience/upload/1.000000") for _ in range(4)]
        other = await agency.ask("GET", "/audience/upload/1.000000")
        slow.clock.ahead_s += int(answers[3].headers["Retry-After"])
        later = await shop.ask("GET", "/audience/upload/1.000000")

    assert [answer.status for answer in answers] == [404, 404, 404, 429]
    assert answers[3].headers["Retry-After"] == "2"
    assert answers[3].content_type == "application/problem+json"
    assert (other.status, later.status) == (404, 404)
