"""digitalAudience's API over a real ledger and store: created, refused, activated."""

import asyncio
import codecs
import io
import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from segments.ingest.tools import Tools
from segments.ledger import audiences, recipients
from segments.loader.catch_up import CatchUp
from segments.loader.metrics import Metrics
from segments.model.order import FIRST_GIVEN_ID
from segments.settings import Settings
from segments.store.reader import read_catalog
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.refusals import REFUSALS
from tests.rest import Answer, serving
from tests.segments.doors.crm_audience.crm_world import NOBODY, Crm, crm, iso, shown_to, world
from tests.segments.doors.rest.rest_world import hashes, text_of

__all__ = ["crm", "world"]  # fixtures

# ---------------------------------------------------------------- create, update, load


async def test_created_audience_has_every_field_of_the_document(crm: Crm) -> None:
    campaign = await crm.data("POST", "/campaign/createcampaign", {"name": "audience campaign"})

    data = await crm.data(
        "POST",
        "/audience/create/api/audience/createcrmaudience",
        {"name": "mine", "description": "audience description", "campaignId": str(campaign["id"])},
    )

    assert isinstance(data.pop("userId"), int)
    assert isinstance(data["id"], int)
    assert data.pop("created") == data.pop("updated") != ""
    assert data == {
        "id": data["id"],
        "name": "mine",
        "description": "audience description",
        "campaignId": campaign["id"],
        "campaignName": "audience campaign",
        "dataUpdated": None,
        "startDate": None,
        "endDate": None,
        "activationStatus": "New",
        "activationStatusId": 0,
        "lifetimeStatus": None,
        "lifetimeStatusId": None,
        "tagCollection": None,
        "crmData": None,
        "audienceState": "NODATA",
        "audienceStateId": 5,
        "type": "ONBOARDING",
        "typeId": 0,
        "sourceAudienceId": None,
        "sourceAudienceTypeId": None,
        "canCreateLookalike": False,
        "hasSegments": False,
    }


async def test_id_of_an_audience_is_what_the_delivery_doors_call_it(crm: Crm) -> None:
    """
    Also where the partner had given the ledger's next numbers to audiences of its own.
    """
    shop = crm.world.seeded.shop
    async with crm.world.rest.services.ledger.begin() as conn:
        for number in range(3, 20):
            await audiences.find_or_create_audience(conn, shop, shop, str(number), "X", now_s=0)

    audience_id = await crm.audience()
    await crm.deliver(audience_id, text_of(hashes("alice")), records=1)
    await crm.world.load_all()

    loaded = await crm.load(audience_id)
    assert (loaded["id"], loaded["audienceState"]) == (audience_id, "READY")
    assert loaded["name"] == "Customers"  # and not as the metadata file calls it


async def test_created_audience_is_shown_to_nobody(crm: Crm) -> None:
    audience_id = await crm.audience()

    for recipient in ("dsp-a", None):
        segment = (await shown_to(crm.world, recipient))[audience_id - FIRST_GIVEN_ID]
        assert not segment.live_from_s <= crm.world.rest.clock() < segment.live_until_s


async def test_update_changes_what_is_said_and_leaves_the_rest(crm: Crm) -> None:
    audience_id = await crm.audience("before")
    crm.world.rest.clock.ahead_s = 5

    renamed = await crm.data("POST", "/audience/update", {"id": str(audience_id), "name": "after"})
    described = await crm.data("POST", "/audience/update", {"id": audience_id, "description": "x"})

    assert (renamed["name"], renamed["description"]) == ("after", None)
    assert renamed["updated"] > renamed["created"]
    assert (described["name"], described["description"]) == ("after", "x")
    assert await crm.load(audience_id) == described


async def test_paths_are_served_in_any_case(crm: Crm) -> None:
    audience_id = await crm.audience()

    for spelled in ("loadAudienceById", "loadaudiencebyid", "LOADaudienceBYid"):
        assert (await crm.data("GET", f"/Audience/{spelled}/{audience_id}"))["id"] == audience_id


async def test_paths_are_served_with_a_slash_at_the_end(crm: Crm) -> None:
    audience_id = await crm.audience()
    campaign = await crm.data("POST", "/campaign/createcampaign/", {"name": "x"})

    loaded = await crm.data("GET", f"/audience/loadAudienceById/{audience_id}/")
    created = await crm.data(
        "POST", "/Audience/CreateCrmAudience/", {"name": "y", "campaignId": campaign["id"]}
    )
    deleted = await crm.data("DELETE", f"/audience/delete/?audienceId={created['id']}")

    assert (loaded["id"], deleted) == (audience_id, True)


async def test_byte_order_mark_before_the_body_of_a_delete_is_no_part_of_it(crm: Crm) -> None:
    body = codecs.BOM_UTF8 + json.dumps({"audienceId": await crm.audience()}).encode()

    deleted = await crm.ask("DELETE", "/audience/delete", data=body)

    assert (deleted.status, deleted.body["data"]) == (200, True)


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/audience/loadAudienceByID", 404, "there is nothing at this path"),
        ("GET", "/Audience/loadAudiences/7", 404, "there is nothing at this path"),
        ("GET", "/campaign/x", 404, "there is nothing at this path"),
        ("GET", "/audience/activate", 405, "this path takes POST"),
        ("PUT", "/Account/Login/", 405, "this path takes POST"),
        ("POST", "/organisation/loadplatformaccounts", 405, "this path takes GET"),
    ],
)
async def test_what_meets_no_operation_is_answered_in_the_envelope(
    crm: Crm, method: str, path: str, status: int, message: str
) -> None:
    answer = await crm.ask(method, path)

    assert (answer.status, answer.content_type) == (status, "application/json")
    assert answer.body["status"]["statusCode"] == status
    assert answer.body["status"]["message"].startswith(message)
    assert (answer.body["data"], answer.body["success"]) == (None, False)


async def test_description_is_cleared_by_null_and_a_name_is_not(crm: Crm) -> None:
    audience_id = await crm.audience()
    await crm.data("POST", "/audience/update", {"id": audience_id, "description": "x"})

    cleared = await crm.data("POST", "/audience/update", {"id": audience_id, "description": None})
    refused = await crm.ask("POST", "/audience/update", {"id": audience_id, "name": None})

    assert (cleared["name"], cleared["description"]) == ("Customers", None)
    assert refused.status == 400
    assert refused.body["status"]["message"] == "body /name: is not a text"


@pytest.mark.parametrize(
    "date",
    [
        pytest.param("20240101000000", id="digits, which are no milliseconds"),
        pytest.param("2024010100", id="digits, which are no seconds"),
        pytest.param("202401010000000", id="digits, one of which could part date and time"),
        pytest.param(1704067200, id="a number"),
        pytest.param("1704067200", id="a unix time as text"),
        pytest.param("2024-W01-1", id="a week, in whose place a day was meant"),
        pytest.param("01/02/2024", id="a day as one country writes it"),
        pytest.param("2024-13-01T00:00:00Z", id="no month"),
        pytest.param("2024-01-01T", id="half of it"),
        pytest.param("\uff12024-01-01", id="digits of another script"),
    ],
)
async def test_date_is_iso_8601_and_nothing_else(crm: Crm, date: Any) -> None:
    audience_id = await crm.audience()
    form = {"audienceId": audience_id, "accountId": crm.world.seeded.dsp.id, "name": "n",
            "startDate": date, "endDate": "9999-01-01T00:00:00Z"}  # fmt: skip

    refused = await crm.ask("POST", "/audience/activate", form)

    assert refused.status == 400
    assert refused.body["status"]["message"] == (
        'body /startDate: is no moment in ISO 8601, as "2024-01-01T00:00:00Z"'
    )


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("2024-01-01", "2024-01-01T00:00:00Z"),
        ("2024-01-01T01:00", "2024-01-01T01:00:00Z"),
        ("2024-01-01 01:00:00+01:00", "2024-01-01T00:00:00Z"),
        ("2024-01-01t00:00:00z", "2024-01-01T00:00:00Z"),
        ("20240101T000000Z", "2024-01-01T00:00:00Z"),
        ("2024-01-01T00:00:00.0000000Z", "2024-01-01T00:00:00Z"),
    ],
)
async def test_date_of_any_form_of_iso_8601_is_taken(crm: Crm, date: str, expected: str) -> None:
    audience_id = await crm.audience()

    await crm.activate(audience_id, startDate=date, endDate="9999-01-01T00:00:00Z")

    assert (await crm.load(audience_id))["startDate"] == expected


async def test_platform_accounts_are_the_recipients_granted_to_the_partner(crm: Crm) -> None:
    async with crm.world.rest.services.ledger.begin() as conn:
        await recipients.add_recipient(conn, "dsp-of-others", now_s=0)

    found = await crm.data("GET", "/organisation/loadplatformaccounts")

    assert [(account["id"], account["name"]) for account in found] == [
        (crm.world.seeded.dsp.id, "dsp-a")
    ]
    assert found == await crm.data("GET", "/organistion/loadplatformaccounts")
    assert (found[0]["agencyName"], found[0]["advertiserId"]) == ("Shop", None)


async def test_campaign_is_created_by_both_paths(crm: Crm) -> None:
    one = await crm.data("POST", "/campaign/create", {"name": "x"})
    two = await crm.data("POST", "/campaign/createcampaign", {"name": "x"})

    assert one["id"] != two["id"]


# ---------------------------------------------------------------- refusals


REFUSED: list[tuple[str, str, Any, int]] = [
    ("POST", "/audience/createcrmaudience", {"name": "x", "campaignId": 999}, 404),
    ("POST", "/audience/createcrmaudience", {"name": "x", "campaignId": "1x"}, 400),
    ("POST", "/audience/createcrmaudience", {"name": "x", "campaignId": True}, 400),
    ("POST", "/audience/createcrmaudience", {"name": " ", "campaignId": 1}, 400),
    ("POST", "/audience/createcrmaudience", {"name": "x"}, 400),
    ("POST", "/audience/update", {"id": 999, "name": "x"}, 404),
    ("POST", "/audience/update", {"name": "x"}, 400),
    ("POST", "/audience/update", {"id": 1, "description": "a\0b"}, 400),
    ("GET", "/audience/loadAudienceById/999", None, 404),
    ("GET", "/audience/loadAudienceById/x", None, 400),
    ("GET", "/audience/loadAudienceById/99999999999999999999", None, 400),
    ("DELETE", "/audience/delete?id=999", None, 404),
    ("DELETE", "/audience/delete", None, 400),
    ("DELETE", "/audience/delete?id=1&audienceId=2", None, 400),
    ("DELETE", "/audience/delete?name=x", None, 400),
    ("DELETE", "/audience/delete", {"id": "x"}, 400),
    ("POST", "/campaign/createcampaign", {"name": "x" * 300}, 400),
    ("POST", "/account/login", {"userName": "x"}, 400),
]


async def test_what_can_not_be_done_is_answered_in_the_envelope(crm: Crm) -> None:
    for method, path, body, status in REFUSED:
        answer = await crm.ask(method, path, body)

        assert (answer.status, path) == (status, path)
        assert answer.body["data"] is None
        assert answer.body["status"]["statusCode"] == status
        assert answer.body["status"]["message"]
        assert answer.body["success"] is False


async def test_other_content_types_and_large_bodies_are_refused(crm: Crm) -> None:
    plain = await crm.ask("POST", "/audience/update", data=b"id=1")
    large = await crm.ask("DELETE", "/audience/delete", data=io.BytesIO(b" " * (2 << 20)))

    assert (plain.status, large.status) == (415, 413)
    assert plain.body["status"]["statusCode"] == 415


async def test_fault_of_ours_is_answered_in_the_envelope_too(crm: Crm) -> None:
    audience_id = await crm.audience()
    async with crm.world.rest.services.ledger.begin() as conn:
        await conn.execute(text("drop table crm_uploads"))

    answer = await crm.ask("GET", f"/audience/loadAudienceById/{audience_id}")

    assert answer.status == 500
    assert answer.body["status"]["statusCode"] == 500
    assert "crm_uploads" not in answer.raw.decode()


async def test_what_bids_may_not_obey_yet_is_told_so_and_may_be_repeated(
    crm: Crm, valkey: Engine
) -> None:
    audience_id = await crm.audience()
    window = {
        "audienceId": audience_id,
        "accountId": crm.world.seeded.dsp.id,
        "name": "x",
        "startDate": "2024-01-01T00:00:00Z",
        "endDate": "2024-01-02T00:00:00Z",
    }

    async def moved_and_deleted() -> list[Answer]:
        return [
            await crm.ask("POST", "/audience/activate", window),
            await crm.ask("DELETE", f"/audience/delete?id={audience_id}"),
        ]

    with REFUSALS["OOM"](valkey):
        moved, deleted = await moved_and_deleted()
    deleted_again = await crm.ask("DELETE", f"/audience/delete?id={audience_id}")

    assert [moved.status, deleted.status] == [503, 503]
    assert {moved.headers["Retry-After"], deleted.headers["Retry-After"]} == {"5"}
    assert "not in force yet" in moved.body["status"]["message"]
    assert (deleted.body["data"], deleted.body["success"]) == (None, False)
    assert (deleted_again.status, deleted_again.body["data"]) == (200, True)


async def test_door_that_lost_the_store_deletes_once_a_loader_has_published(
    crm: Crm, settings: Settings, tmp_path: Path
) -> None:
    """It asks by the ledger; without a loader the same request is told to come again."""
    audience_id = await crm.audience()
    path = f"/audience/delete?id={audience_id}"
    services, redis = crm.world.rest.services, crm.world.redis
    headers = {**NOBODY, "Cookie": crm.cookie}
    async with (
        connect(f"unix://{tmp_path}/nowhere", retry=None) as nowhere,
        serving(settings, services.ledger, nowhere) as lost,
    ):
        alone = await lost.ask("DELETE", path, headers=headers)
        tools = Tools(services.ledger, redis, services.blobs, settings.spool_dir, time.time)
        stopping = asyncio.Event()
        loader = CatchUp(tools, settings.expected_ids, Metrics(), every_s=0.1)
        running = asyncio.create_task(loader.run(asyncio.Event(), stopping))
        helped = await lost.ask("DELETE", path, headers=headers)
        stopping.set()
        await running

    assert (alone.status, helped.status) == (503, 200)
    shown = (await read_catalog(redis)).audiences
    assert audience_id - FIRST_GIVEN_ID not in {entry.id for entry in shown}


async def test_other_methods_are_not_allowed(crm: Crm) -> None:
    answer = await crm.ask("GET", "/audience/Activate")

    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_no_account_reaches_over_to_another(crm: Crm) -> None:
    audience_id = await crm.audience()
    world = crm.world
    await world.rest.user("eve", world.seeded.sub)
    eve = Crm(world)
    await eve.login("eve")
    campaign_id = (await crm.load(audience_id))["campaignId"]

    asked = [
        await eve.ask("GET", f"/audience/loadAudienceById/{audience_id}"),
        await eve.ask("POST", "/audience/update", {"id": audience_id, "name": "mine now"}),
        await eve.ask("DELETE", f"/audience/delete?id={audience_id}"),
        await eve.ask(
            "POST", "/audience/createcrmaudience", {"name": "x", "campaignId": campaign_id}
        ),
        await eve.ask(
            "POST",
            "/audience/activate",
            {
                "audienceId": await eve.audience(),
                "accountId": world.seeded.dsp.id,  # sees the shop alone
                "name": "x",
                "startDate": "2024-01-01T00:00:00Z",
                "endDate": "2124-01-01T00:00:00Z",
            },
        ),
    ]

    assert [answer.status for answer in asked] == [404] * 5


async def test_agency_itself_has_no_audiences(crm: Crm) -> None:
    world = crm.world
    await world.rest.user("boss", world.seeded.agency)
    boss = Crm(world)
    await boss.login("boss")

    answers = [
        await boss.ask("POST", "/campaign/create", {"name": "x"}),
        await boss.ask("POST", "/audience/createcrmaudience", {"name": "x", "campaignId": 1}),
    ]

    assert [answer.status for answer in answers] == [403, 403]


async def test_access_token_of_the_other_login_opens_these_doors_too(crm: Crm) -> None:
    audience_id = await crm.audience()

    answer = await crm.world.rest.ask("GET", f"/audience/loadAudienceById/{audience_id}")

    assert answer.status == 200


# ---------------------------------------------------------------- activation


async def test_activation_shows_the_audience_to_one_account_in_its_window(crm: Crm) -> None:
    audience_id = await crm.audience()
    world = crm.world
    async with world.rest.services.ledger.begin() as conn:
        other = await recipients.add_recipient(conn, "dsp-b", now_s=0)
        await recipients.grant(conn, other, world.seeded.shop)

    activated = await crm.activate(
        audience_id, startDate="2027-01-01T00:00:00Z", endDate="2027-01-31T23:59:59+01:00"
    )

    assert str(uuid.UUID(activated["flowId"])) == activated["flowId"]
    segment = (await shown_to(world, "dsp-a"))[audience_id - FIRST_GIVEN_ID]
    assert segment.segment_id == str(activated["segmentId"])
    assert (segment.live_from_s, segment.live_until_s) == (1798761600, 1801436399)
    for recipient in ("dsp-b", None):
        assert (await shown_to(world, recipient))[audience_id - FIRST_GIVEN_ID].live_until_s == 0
    loaded = await crm.load(audience_id)
    assert (loaded["startDate"], loaded["endDate"]) == (
        "2027-01-01T00:00:00Z",
        "2027-01-31T22:59:59Z",
    )
    assert loaded["hasSegments"] is True


async def test_same_account_once_more_moves_the_window_of_the_same_segment(crm: Crm) -> None:
    audience_id = await crm.audience()
    first = await crm.activate(audience_id)

    second = await crm.activate(audience_id, endDate=iso(crm.world.rest.clock() + 10))

    assert second["segmentId"] == first["segmentId"]
    assert second["flowId"] != first["flowId"]
    segment = (await shown_to(crm.world, "dsp-a"))[audience_id - FIRST_GIVEN_ID]
    assert segment.live_until_s == int(crm.world.rest.clock() + 10)


async def test_activation_status_follows_the_window(crm: Crm) -> None:
    audience_id = await crm.audience()
    clock = crm.world.rest.clock
    await crm.activate(audience_id, startDate=iso(clock() + 30), endDate=iso(clock() + 60))

    said = []
    for ahead_s in (0, 31, 61):
        clock.ahead_s = ahead_s
        loaded = await crm.load(audience_id)
        said.append((loaded["activationStatus"], loaded["activationStatusId"]))

    assert said == [("New", 0), ("Active", 1), ("Ended", 2)]


WRONG_ACTIVATIONS: list[dict[str, Any]] = [
    {"endDate": "2020-01-01T00:00:00Z"},  # ends before it begins
    {"startDate": "yesterday"},
    {"startDate": 1767225600},
    {"startDate": "0001-01-01T00:00:00+14:00"},
    {"endDate": "9999-12-31T23:59:59-14:00"},
    {"name": None},
    {"audienceId": "no"},
]


async def test_activation_that_can_not_be_is_refused(crm: Crm) -> None:
    audience_id = await crm.audience()
    for said in WRONG_ACTIVATIONS:
        form = {
            "audienceId": audience_id,
            "accountId": crm.world.seeded.dsp.id,
            "name": "x",
            "startDate": "2026-01-01",
            "endDate": "2126-01-01T00:00:00Z",
            **said,
        }

        answer = await crm.ask("POST", "/audience/activate", form)

        assert (answer.status, said) == (400, said)
        assert answer.body["success"] is False


async def test_segment_ids_of_activations_keep_clear_of_the_partners_own(crm: Crm) -> None:
    audience_id = await crm.audience()
    first = (await crm.activate(audience_id))["segmentId"]
    other = await crm.audience()

    second = (await crm.activate(other))["segmentId"]

    assert first != second
    assert min(first, second) > 10**9
