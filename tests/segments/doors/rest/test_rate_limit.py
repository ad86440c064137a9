from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.rest.rate_limit import AGAIN_AFTER_S
from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.ledger_seed import Seeded
from tests.rest import Answer, Rest, serving


@pytest.fixture
async def slow(settings: Settings, ledger: AsyncEngine, valkey: Engine) -> AsyncIterator[Rest]:
    """Doors that take three requests at once, and one more each two seconds."""
    limited = settings.model_copy(update={"api_requests_per_s": 0.5, "api_requests_burst": 3})
    async with connect(valkey.url) as redis:
        await prepare(redis, limited.expected_ids)
        async with serving(limited, ledger, redis) as rest:
            yield rest


@pytest.fixture
async def two(settings: Settings, ledger: AsyncEngine, valkey: Engine) -> AsyncIterator[list[Rest]]:
    """The doors of two processes, over one ledger and one store."""
    limited = settings.model_copy(update={"api_requests_per_s": 0.5, "api_requests_burst": 3})
    async with connect(valkey.url, retry=None) as redis:
        await prepare(redis, limited.expected_ids)
        async with serving(limited, ledger, redis) as one, serving(limited, ledger, redis) as other:
            other.clock.ahead_s = one.clock() - other.clock()
            yield [one, other]


async def asked(rest: Rest, token: str) -> Answer:
    headers = {"Authorization": f"Bearer {token}"}
    return await rest.ask("GET", "/audience/upload/1.000000", headers=headers)


async def test_requests_are_counted_for_all_replicas_together(
    two: list[Rest], seeded: Seeded
) -> None:
    await two[0].user("bob", seeded.shop)
    token = (await two[0].login("bob")).body["token"]

    answers = [await asked(two[n % 2], token) for n in range(5)]

    assert [answer.status for answer in answers] == [404, 404, 404, 429, 429]


async def test_each_process_counts_for_itself_while_the_store_is_away(
    two: list[Rest], seeded: Seeded, valkey: Engine
) -> None:
    await two[0].user("bob", seeded.shop)
    token = (await two[0].login("bob")).body["token"]
    valkey.freeze()
    away = [await asked(rest, token) for rest in two for _ in range(4)]
    valkey.thaw()
    for rest in two:
        rest.clock.ahead_s += AGAIN_AFTER_S
    back = [await asked(two[n % 2], token) for n in range(4)]

    assert [answer.status for answer in away] == 2 * [404, 404, 404, 429]
    # One was counted by the store when it was asked last, and answered too late.
    assert [answer.status for answer in back][-1] == 429


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
