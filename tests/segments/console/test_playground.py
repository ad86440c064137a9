"""The playground: a bid explained by a listener, with the names that the ledger knows."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.acts.audiences import set_state
from segments.acts.trail import By
from segments.ledger import audiences
from segments.ledger.privacy.audit import COMMAND_LINE, digest_of, entries
from segments.model.audience import AudienceState
from segments.model.identity import id_of_email_hash
from segments.model.record import Change, OptOut, OptOutAction
from segments.model.role import Role
from segments.projection.catalog import publish_catalog
from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from segments.upkeep.listeners import Listeners
from tests.console import Served, serving_console
from tests.engines import Engine
from tests.ledger_seed import NOW_S, Seeded
from tests.listener import explaining_listener

DIGEST = "5d41402abc4b2a76b9719d911017c592" * 2


def bid(digest: str = DIGEST) -> str:
    eids = [{"source": "liveintent.com", "uids": [{"id": digest}]}]
    return json.dumps({"id": "r1", "imp": [{"id": "1"}], "user": {"eids": eids}})


@dataclass
class World:
    console: Served
    seeded: Seeded
    listener: str


@pytest.fixture
async def world(
    settings: Settings, ledger: AsyncEngine, seeded: Seeded, valkey: Engine
) -> AsyncIterator[World]:
    """A person in an audience of the shop, and in one that its recipient may not see."""
    async with connect(valkey.url) as redis, explaining_listener(valkey.url) as listeners:
        meta = await prepare(redis, settings.expected_ids)
        changes = [Change(each.id, is_add=True) for each in (seeded.shoes, seeded.hats)]
        await Writer(redis, meta).merge([id_of_email_hash(DIGEST)], changes)
        await publish_catalog(ledger, redis)
        async with serving_console(settings, ledger, redis, listeners=listeners) as served:
            yield World(served, seeded, listeners.urls[0])


async def test_a_bid_is_explained_with_the_names_of_the_ledger(
    world: World, ledger: AsyncEngine
) -> None:
    async with world.console.staff_of(Role.OPERATOR) as ada:
        await ada.see("/ops/playground?example=1")
        shown = await ada.send("/ops/playground", request=bid(), recipient="dsp-a")

    assert shown.status == 200
    assert shown.headers["Cache-Control"] == "no-store"
    assert "enriched 1 segment added by catalog" in shown.said
    assert "123 Shoes shop added" in shown.said
    assert "Hats agency agency is not granted to dsp-a" in shown.said
    assert "rule 3: liveintent.com" in shown.said
    assert shown.text.count(DIGEST) == 1  # in the box
    async with ledger.begin() as conn:
        digest = await digest_of(conn, id_of_email_hash(DIGEST), now_s=NOW_S)
        [row] = [row async for row in entries(conn) if row["what"] == "explain"]
    assert (row["actor_name"], row["target"]) == ("staff-operator", "dsp-a")
    assert (row["result"], row["subjects"]) == ("done", [digest])
    assert DIGEST[:32] not in str(row)


async def test_an_audience_outside_the_catalog_says_why(world: World, ledger: AsyncEngine) -> None:
    by = By(COMMAND_LINE, NOW_S)
    async with ledger.begin() as conn:
        shoes = await audiences.audience(conn, world.seeded.shoes.id)
        await set_state(conn, by, shoes, AudienceState.DEACTIVATED)
    await world.console.services.publish_catalog()
    async with world.console.staff_of(Role.OPERATOR) as ada:
        await ada.see("/ops/playground")
        shown = await ada.send("/ops/playground", request=bid(), recipient="")

    assert "Shoes shop its audience is deactivated" in shown.said
    assert "123 Hats agency added" in shown.said
    assert "for the trusted caller" in shown.said


async def test_an_opt_out_is_told_by_the_name_of_its_account(world: World, valkey: Engine) -> None:
    async with connect(valkey.url) as redis:
        meta = await prepare(redis, 10_000)
        opt_out = OptOut(world.seeded.shop.id, OptOutAction.RESTRICT)
        await Writer(redis, meta).opt_out([id_of_email_hash(DIGEST)], opt_out, None)
    async with world.console.staff_of(Role.OPERATOR) as ada:
        await ada.see("/ops/playground")
        shown = await ada.send("/ops/playground", request=bid(), recipient="dsp-a")

    assert "opted_out" in shown.said
    assert "RESTRICT by advertiser shop suppresses the segments of 1 owner" in shown.said
    assert "123 Shoes shop suppressed by an opt-out" in shown.said


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"request": ""}, "A bid request has 1 to 131072 characters"),
        ({"request": "{}", "at": "yesterday"}, "Such as 2026-11-29 11:42:00, in UTC"),
    ],
)
async def test_a_field_that_is_wrong_says_so_beside_itself(
    world: World, ledger: AsyncEngine, fields: dict[str, str], said: str
) -> None:
    async with world.console.staff_of(Role.OPERATOR) as ada:
        await ada.see("/ops/playground")
        shown = await ada.send("/ops/playground", **fields)

    assert (shown.status, said in shown.said) == (422, True)
    async with ledger.connect() as conn:
        assert [row async for row in entries(conn) if row["what"] == "explain"] == []


async def test_moment_and_form_are_as_asked(world: World) -> None:
    async with world.console.staff_of(Role.OPERATOR) as ada:
        await ada.see("/ops/playground")
        fields = {"recipient": "dsp-a", "at": "2026-11-29 11:42:00", "form": "patch"}
        shown = await ada.send("/ops/playground", request=bid(), **fields)

    assert "at 2026-11-29 11:42" in shown.said
    assert "/user/data" in shown.said


async def test_a_large_request_is_taken_and_a_request_without_json_is_malformed(
    world: World,
) -> None:
    large = bid()[:-1] + ',"ext":{"x":"' + "é" * 60_000 + '"}}'
    async with world.console.staff_of(Role.OPERATOR) as ada:
        await ada.see("/ops/playground")
        taken = await ada.send("/ops/playground", request=large, recipient="dsp-a")
        malformed = await ada.send("/ops/playground", request="no JSON", recipient="dsp-a")

    assert "enriched" in taken.said
    assert "No bid request: not_json" in malformed.said


async def test_a_listener_that_explains_nothing_says_why(
    settings: Settings, ledger: AsyncEngine, seeded: Seeded, valkey: Engine
) -> None:
    listeners = Listeners(("http://127.0.0.1:1",))
    async with (
        connect(valkey.url) as redis,
        serving_console(settings, ledger, redis, listeners=listeners) as served,
        served.staff_of(Role.OPERATOR) as ada,
    ):
        await ada.see("/ops/playground")
        shown = await ada.send("/ops/playground", request=bid(), recipient="dsp-a")

    assert "http://127.0.0.1:1 explains nothing: RTB_EXPLAIN_SECRET is not set here" in shown.said
    async with ledger.connect() as conn:
        [row] = [row async for row in entries(conn) if row["what"] == "explain"]
    assert (row["result"], row["reason"]) == ("refused", "no listener explained it")
