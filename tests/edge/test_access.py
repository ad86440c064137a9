"""Recipients that need a token: who is served, who is refused, and how that is said."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256

import pytest
from redis.asyncio import Redis

from rtb.server.metrics.layout import REFUSED, Refusal
from segments.model.catalog import RecipientEntry
from tests.edge.client import ENRICH, Client, connected, request
from tests.edge.small_store import (
    SHOP_DATA,
    Service,
    added_data,
    bid_request,
    eventually,
    publish_recipients,
    serving,
)
from tests.engines import Engine

OPEN = "/openrtb2/enrich/dsp-open"


def digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()


def recipient(number: int, name: str, *tokens: str, needs: bool = True) -> RecipientEntry:
    digests = tuple(map(digest, tokens)) if needs else None
    return RecipientEntry(number, name, is_active=True, partner_ids=(1,), tokens=digests)


ENTRIES = (
    recipient(1, "dsp-a", "ours-old", "ours-new"),
    recipient(2, "dsp-b", "theirs"),
    recipient(3, "dsp-locked"),
    recipient(4, "dsp-open", needs=False),
)


@asynccontextmanager
async def guarded(
    valkey: Engine, *entries: RecipientEntry, **settings: object
) -> AsyncIterator[tuple[Service, Client, Redis]]:
    async with (
        Redis.from_url(valkey.url) as redis,
        serving(valkey.url, **settings) as service,
        connected(service.port) as client,
    ):
        await publish_recipients(redis, 2, *(entries or ENTRIES))
        await eventually(lambda: service.worker.bids.catalog.version == 2)
        yield service, client, redis


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param("Bearer ours-new", id="the new one"),
        pytest.param("Bearer ours-old", id="the one before"),
        pytest.param("bearer ours-new", id="in lower case"),
        pytest.param("BEARER   ours-new  ", id="with blanks"),
    ],
)
async def test_token_of_the_recipient_is_served(valkey: Engine, authorization: str) -> None:
    async with guarded(valkey) as (_, client, _redis):
        answers = [await client.post(bid_request(), Authorization=authorization) for _ in range(3)]

    assert all(added_data(answer.body) == [SHOP_DATA] for answer in answers)


@pytest.mark.parametrize(
    ("path", "headers", "status", "error"),
    [
        pytest.param(ENRICH, {}, 401, "no_token", id="no header"),
        pytest.param(ENRICH, {"Authorization": ""}, 401, "no_token", id="an empty header"),
        pytest.param(ENRICH, {"Authorization": "Bearer"}, 401, "no_token", id="no token"),
        pytest.param(ENRICH, {"Authorization": "ours-new"}, 401, "no_token", id="no scheme"),
        pytest.param(ENRICH, {"Authorization": "Basic ours-new"}, 401, "no_token", id="Basic"),
        pytest.param(
            ENRICH, {"Proxy_Authorization": "Bearer ours-new"}, 401, "no_token", id="to a proxy"
        ),
        pytest.param(
            ENRICH, {"Authorization": "Bearer nobodys"}, 401, "unknown_token", id="unknown"
        ),
        pytest.param(
            ENRICH, {"Authorization": "Bearer ours-ne"}, 401, "unknown_token", id="a part"
        ),
        pytest.param(
            ENRICH,
            {"Authorization": f"Bearer {digest('ours-new')}"},
            401,
            "unknown_token",
            id="what the store has of it",
        ),
        pytest.param(
            ENRICH, {"Authorization": "Bearer theirs"}, 403, "other_token", id="another's"
        ),
        pytest.param(
            "/openrtb2/patch/dsp-b", {"Authorization": "Bearer ours-new"}, 403, "other_token",
            id="another's, the other way",
        ),
        pytest.param(
            "/openrtb25/dsp-locked", {"Authorization": "Bearer ours-new"}, 403, "other_token",
            id="all revoked, another's",
        ),
        pytest.param(
            "/openrtb25/dsp-locked", {"Authorization": "Bearer "}, 401, "no_token",
            id="all revoked",
        ),
        pytest.param("/openrtb2/enrich/dsp%2Da", {}, 401, "no_token", id="the name in other words"),
    ],
)  # fmt: skip
async def test_others_are_refused_and_the_connection_goes_on(
    valkey: Engine, path: str, headers: dict[str, str], status: int, error: str
) -> None:
    async with guarded(valkey) as (service, client, _):
        refused = await client.post(bid_request(), path, **headers)
        served = await client.post(bid_request(), Authorization="Bearer ours-new")
        counts = dict(zip(Refusal, service.counters.cells[REFUSED:], strict=False))

    assert (refused.status, refused.error, refused.body) == (status, error, b"")
    assert refused.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
    assert refused.outcome == "malformed"
    assert served.outcome == "enriched"
    assert {kind: count for kind, count in counts.items() if count} == {error: 1}


@pytest.mark.parametrize("names", [("Authorization",) * 2, ("Authorization", "authorization")])
@pytest.mark.parametrize("tokens", [("ours-new", "nobodys"), ("nobodys", "ours-new")])
async def test_two_lines_are_no_token(
    valkey: Engine, names: tuple[str, str], tokens: tuple[str, str]
) -> None:
    """A proxy before us may have looked at the other one."""
    lines = "".join(
        f"{name}: Bearer {token}\r\n" for name, token in zip(names, tokens, strict=True)
    )
    data = request(bid_request(), ENRICH).replace(b"Host:", lines.encode() + b"Host:", 1)

    async with guarded(valkey) as (_, client, _redis):
        client.send(data)
        answer = await client.answer()

    assert answer.status == 401


async def test_method_and_content_type_are_not_told_to_whom_no_recipient_is(
    valkey: Engine,
) -> None:
    async with guarded(valkey) as (_, client, _redis):
        client.send(request(b"", ENRICH, method="GET"))
        answer = await client.answer()

    assert answer.status == 401


async def test_recipient_without_tokens_is_served_whatever_is_shown(valkey: Engine) -> None:
    async with guarded(valkey) as (_, client, _redis):
        answers = [
            await client.post(bid_request(), OPEN),
            await client.post(bid_request(), OPEN, Authorization="Bearer theirs"),
        ]

    assert [answer.outcome for answer in answers] == ["enriched"] * 2


async def test_default_recipient_needs_its_token_as_well(valkey: Engine) -> None:
    async with guarded(valkey, default_recipient="dsp-a") as (_, client, _redis):
        refused = await client.post(bid_request(), "/openrtb2/enrich")
        served = await client.post(
            bid_request(), "/openrtb2/enrich", Authorization="Bearer ours-new"
        )

    assert refused.status == 401
    assert served.outcome == "enriched"


async def test_token_that_is_revoked_is_so_on_a_connection_that_is_open(valkey: Engine) -> None:
    """Its head is one that the reader has learnt."""
    async with guarded(valkey) as (service, client, redis):
        before = [
            await client.post(bid_request(), Authorization="Bearer ours-old") for _ in range(2)
        ]
        await publish_recipients(redis, 3, recipient(1, "dsp-a", "ours-new"))
        await eventually(lambda: service.worker.bids.catalog.version == 3)
        after = await client.post(bid_request(), Authorization="Bearer ours-old")

    assert [answer.outcome for answer in before] == ["enriched"] * 2
    assert (after.status, after.error) == (401, "unknown_token")
