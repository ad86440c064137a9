"""The operations on audiences by our numbers, over a real ledger and store."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import accounts, audiences
from segments.ledger.tables import audience_counts, audit
from segments.model.record import began_at_s
from segments.settings import Settings
from segments.store.reader import read_catalog
from tests.engines import Engine
from tests.rest import Rest
from tests.segments.doors.rest.rest_world import RestDoors, hashes, text_of, world_served

ALICE, BOB = hashes("alice", "bob")
FILE = text_of([ALICE, BOB, BOB, "no hash"])


@pytest.fixture
async def world(
    settings: Settings, ledger: AsyncEngine, valkey: Engine
) -> AsyncIterator[RestDoors]:
    async with world_served(settings, ledger, valkey) as world:
        yield world


@pytest.fixture
async def rest(world: RestDoors) -> Rest:
    return world.rest


async def made(rest: Rest, *names: str) -> list[int]:
    answers = [await rest.ask("POST", "/audiences", {"name": name}) for name in names]
    assert {answer.status for answer in answers} == {201}
    return [answer.body["id"] for answer in answers]


async def acts(world: RestDoors) -> list[tuple[str, str, str]]:
    async with world.rest.services.ledger.connect() as conn:
        rows = await conn.execute(select(audit.c.what, audit.c.actor, audit.c.actor_name))
        return [(what, actor, name) for what, actor, name in rows]


def by_name(name: str) -> dict[str, Any]:
    return {"nameMatches": {"value": {"eq": {"value": name}}}}


def by_status(status: str) -> dict[str, Any]:
    return {"status": {"value": status}}


async def test_audience_is_created_shown_and_noted(world: RestDoors, rest: Rest) -> None:
    shop = world.seeded.shop
    said = {"name": "Boots", "accountId": shop.id, "dataProviderId": shop.id, "metadata": {}}

    created = await rest.ask("POST", "/audiences", said)

    assert created.status == 201
    number = created.body["id"]
    assert created.body["accountId"] == created.body["dataProviderId"] == shop.id
    assert (created.body["name"], created.body["status"]) == ("Boots", "Active")
    assert created.body["createdAt"].endswith("Z")
    for path in (f"/audiences/{number}", f"/audience/{number}"):
        assert (await rest.ask("GET", path)).body == created.body
    catalog = await read_catalog(world.redis)
    assert created.body["segmentId"] in [entry.segment_id for entry in catalog.audiences]
    assert await acts(world) == [("audience create", "user", f"user-{shop.id}")]


async def test_agency_creates_for_its_sub_accounts_alone(world: RestDoors) -> None:
    sub, shop = world.seeded.sub, world.seeded.shop
    async with world.rest.acting_for(world.seeded.agency) as agency:
        created = await agency.ask("POST", "/audiences", {"name": "A", "accountId": sub.id})
        refused = [
            await agency.ask("POST", "/audiences", {"name": "A", **said})
            for said in (
                {},
                {"accountId": shop.id},
                {"accountId": sub.id, "dataProviderId": sub.id},
            )
        ]

    assert created.body["dataProviderId"] == world.seeded.agency.id
    assert [answer.status for answer in refused] == [403] * 3


async def test_audience_is_renamed_archived_and_activated(world: RestDoors, rest: Rest) -> None:
    [number] = await made(rest, "Boots")
    path = f"/audiences/{number}"

    renamed = await rest.ask("PATCH", path, {"name": "Shoes"})
    archived = await rest.ask("PATCH", path, {"status": "Archive"})
    catalog = await read_catalog(world.redis)
    activated = await rest.ask("PATCH", path, {"status": "Activate"})

    assert (renamed.status, renamed.body["name"]) == (200, "Shoes")
    assert (archived.status, archived.body["status"]) == (200, "Archived")
    assert (activated.status, activated.body["status"]) == (200, "Active")
    assert {entry.is_active for entry in catalog.audiences if entry.id == number} == {False}
    assert [what for what, *_ in await acts(world)] == [
        "audience create",
        "audience rename",
        "audience deactivate",
        "audience activate",
    ]


async def test_list_is_paged_newest_first_and_counts_all(rest: Rest) -> None:
    numbers = await made(rest, "a", "b", "c")

    first = (await rest.ask("GET", "/audiences?pageSize=2")).body
    last = (await rest.ask("GET", "/audiences?pageSize=2&page=2")).body

    assert (first["page"], first["pageSize"], first["pages"], first["totalCount"]) == (1, 2, 2, 4)
    assert [each["id"] for each in first["entries"]] == [numbers[2], numbers[1]]
    assert last["entries"][0]["id"] == numbers[0]
    assert (await rest.ask("GET", "/audience?page=3&pageSize=2")).body["entries"] == []


async def test_list_holds_what_changed_after_a_time(world: RestDoors, rest: Rest) -> None:
    rest.clock.ahead_s += 100
    [number] = await made(rest, "later")
    after_ms = int((rest.clock() - 50) * 1000)

    later = await rest.ask("GET", f"/audiences?updatedAfter={after_ms}")

    assert [each["id"] for each in later.body["entries"]] == [number]
    of_nobody = await rest.ask("GET", f"/audiences?accountId={world.seeded.sub.id}")
    assert of_nobody.body["totalCount"] == 0


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        pytest.param(by_name("Boots"), ["Boots"], id="name"),
        pytest.param(by_name("boot"), [], id="a part of the name"),
        pytest.param(by_status("Archived"), ["Hats"], id="status"),
        pytest.param({"not": {"value": by_status("Active")}}, ["Hats"], id="not"),
        pytest.param(
            {"or": {"values": [by_name("Hats"), by_name("Boots")]}}, ["Hats", "Boots"], id="or"
        ),
        pytest.param({"and": {"values": [by_name("Hats"), by_status("Active")]}}, [], id="and"),
        pytest.param({"or": {"values": []}}, [], id="any of none"),
        pytest.param({"and": {"values": []}}, ["Hats", "Boots", "Shoes"], id="all of none"),
        pytest.param(
            {"accountIdMatches": {"value": {"eq": {"value": 2**63 - 1}}}}, [], id="account"
        ),
        pytest.param({"ruleIdMatches": {"value": {"eq": {"value": 1}}}}, [], id="rule"),
    ],
)
async def test_search_finds_by_filter_alike_by_page_and_by_cursor(
    rest: Rest, filter_: dict[str, Any], expected: list[str]
) -> None:
    _, hats = await made(rest, "Boots", "Hats")
    await rest.ask("PATCH", f"/audiences/{hats}", {"status": "Archive"})

    by_page = await rest.ask("POST", "/search/audiences", {"matches": filter_})
    by_cursor = await rest.ask("POST", "/search/audiences/v2", {"matches": filter_})

    assert [each["name"] for each in by_page.body["entries"]] == expected
    assert [each["name"] for each in by_cursor.body["items"]] == expected
    assert by_page.body["totalCount"] == len(expected)


async def test_search_goes_on_at_its_cursor(rest: Rest) -> None:
    numbers = await made(rest, "a", "b")
    seen: list[int] = []
    said: dict[str, Any] = {"pageSize": 1}

    while True:
        answer = (await rest.ask("POST", "/search/audiences/v2", said)).body
        seen += [each["id"] for each in answer["items"]]
        if "next" not in answer:
            break
        said = {"pageSize": 1, "next": answer["next"]}

    assert seen[:2] == numbers[::-1]
    assert len(seen) == 3


def nested(depth: int) -> dict[str, Any]:
    return by_status("Active") if depth == 1 else {"not": {"value": nested(depth - 1)}}


@pytest.mark.parametrize(
    ("path", "said", "expected"),
    [
        pytest.param("/search/audiences", {"matches": nested(6)}, "6 levels deep", id="too deep"),
        pytest.param(
            "/search/audiences",
            {"matches": {"or": {"values": [by_name("a")] * 100}}},
            "101 filters, 100 at most",
            id="too many",
        ),
        pytest.param("/search/audiences", {"matches": {}}, "exactly one member", id="none"),
        pytest.param("/search/audiences", {"pagesize": 1}, "pageSize", id="unknown member"),
        pytest.param("/search/audiences/v2", {"next": "x"}, "next: not from the page", id="cursor"),
        pytest.param("/audiences", {"name": "a", "metadata": {"x": {}}}, "metadata", id="metadata"),
        pytest.param(
            "/audiences/1/signed-urls",
            {"identifierType": "plain", "action": "add"},
            "identifierType",
            id="kind of identifier",
        ),
        pytest.param(
            "/audiences/1/signed-urls",
            {"identifierType": "md5", "action": "add", "notificationEmail": "a@b.example"},
            "notificationEmail",
            id="mail",
        ),
        pytest.param(
            "/audiences/1/signed-urls",
            {"identifierType": "md5", "action": "add", "uploadName": "../a.txt"},
            "uploadName",
            id="a path as a name",
        ),
    ],
)
async def test_bad_request_is_named_in_the_vendor_s_form(
    rest: Rest, path: str, said: dict[str, Any], expected: str
) -> None:
    answer = await rest.ask("POST", path, said)

    assert answer.status == answer.body["httpStatus"] == 400
    assert answer.body["errorCode"] == "BAD_REQUEST"
    assert expected in answer.body["message"]


async def test_unknown_parameter_is_named(rest: Rest) -> None:
    answer = await rest.ask("GET", "/audiences?pagesize=3")

    assert answer.status == 400
    assert "pagesize" in answer.body["message"]
    assert "pageSize" in answer.body["message"]


async def test_search_of_the_deepest_kind_is_answered(rest: Rest) -> None:
    answer = await rest.ask("POST", "/search/audiences", {"matches": nested(5)})

    assert answer.status == 200


async def test_audience_of_another_account_is_not_found(world: RestDoors, rest: Rest) -> None:
    number = world.seeded.hats.id
    asked: list[tuple[str, str, Any]] = [
        ("GET", f"/audiences/{number}", None),
        ("PATCH", f"/audiences/{number}", {"name": "x"}),
        ("GET", f"/audiences/{number}/counts", None),
        ("GET", f"/audiences/{number}/uploads", None),
        ("POST", f"/audience/{number}/signed-urls", {"identifierType": "md5", "action": "add"}),
        ("GET", f"/audience/{2**63 - 1}", None),
    ]

    for method, path, said in asked:
        answer = await rest.ask(method, path, said)
        assert (answer.status, answer.body["errorCode"]) == (404, "NOT_FOUND")


async def test_file_put_to_a_signed_url_is_among_the_uploads(world: RestDoors, rest: Rest) -> None:
    number = world.seeded.shoes.id
    said = {"identifierType": "SHA256", "action": "Add", "uploadName": "a.txt"}
    signed = await rest.ask("POST", f"/audiences/{number}/signed-urls", said)
    assert signed.status == 201
    put = await rest.ask("PUT", signed.body["signedUrl"], data=FILE)
    assert put.status == 200

    [waiting] = (await rest.ask("GET", f"/audiences/{number}/uploads")).body["entries"]
    await world.load_all()
    page = (await rest.ask("GET", f"/audience/{number}/uploads?pageSize=1")).body

    assert waiting["status"] == "Pending"
    [done] = page["entries"]
    assert (page["pages"], page["totalCount"]) == (1, 1)
    assert (done["status"], done["action"], done["uploadType"]) == ("Finished", "add", "sha2")
    assert done["uploadedHashesCount"] == 4
    assert done["invalidHashesCount"] == 1
    assert done["estimatedDuplicateCount"] == 1
    assert await world.audiences_of(ALICE) == {number}


async def test_counts_are_in_hundreds_and_leave_out_small_ones(
    world: RestDoors, rest: Rest
) -> None:
    number = world.seeded.shoes.id
    counted = {2500: 123_456, 2501: 850, 2502: 124_000}
    async with world.rest.services.ledger.begin() as conn:
        rows = [
            {
                "audience_id": number,
                "day": day,
                "counted_at_s": began_at_s(day) + 7200.0,
                "members": members,
                "opted_out": 7,
                "ends": {"2600": 50},
            }
            for day, members in counted.items()
        ]
        await conn.execute(insert(audience_counts), rows)

    first = (await rest.ask("GET", f"/audiences/{number}/counts")).body["entries"]
    again = (await rest.ask("GET", f"/audience/{number}/counts")).body["entries"]

    assert [each["date"] for each in first] == ["2026-11-07", "2026-11-05"]
    assert all(each["totalCount"] % 100 == 0 for each in first)
    assert abs(first[1]["totalCount"] - 123_456) < 100
    assert [each["matchCount"] for each in first] == [0, 0]
    assert again == first


async def test_deleted_audience_takes_no_change_and_no_file(world: RestDoors, rest: Rest) -> None:
    shop = world.seeded.shop
    async with world.rest.services.ledger.begin() as conn:
        gone = await audiences.find_or_create_audience(conn, shop, shop, "9", "Gone", now_s=0)
        await audiences.delete_with_name(conn, gone, now_s=0)
    said = {"identifierType": "md5", "action": "add"}

    shown = await rest.ask("GET", f"/audiences/{gone.id}")
    changed = await rest.ask("PATCH", f"/audiences/{gone.id}", {"status": "Activate"})
    signed = await rest.ask("POST", f"/audiences/{gone.id}/signed-urls", said)

    assert shown.body["status"] == "Deleted"
    assert (changed.status, signed.status) == (400, 404)


async def test_words_of_other_doors_below_audience_stay_theirs(rest: Rest) -> None:
    answer = await rest.ask("GET", "/audience/delete")

    assert answer.status == 405
    assert "status" in answer.body  # digitalAudience's envelope


async def test_inactive_sub_account_owns_nothing_new(world: RestDoors) -> None:
    async with world.rest.services.ledger.begin() as conn:
        await accounts.set_account_active(conn, world.seeded.sub, is_active=False)
    async with world.rest.acting_for(world.seeded.agency) as agency:
        said = {"name": "A", "accountId": world.seeded.sub.id}

        answer = await agency.ask("POST", "/audiences", said)

    assert answer.status == 403
