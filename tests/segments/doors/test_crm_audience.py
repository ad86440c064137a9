"""digitalAudience's API over a real ledger, store and directory, with the loader's own code."""

import asyncio
import io
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from rtb.catalog import Catalog, Segment
from segments.identity import Kind, id_of_email_hash, id_of_ifa, id_of_phone_hash
from segments.ingest.job import Job, State
from segments.ledger import audiences, jobs, recipients
from segments.optout import record_opt_out
from segments.rebuild import rebuild
from segments.record import Action
from segments.scrub import Scrubber
from segments.settings import Settings
from segments.store import keys
from segments.store.connection import connect
from segments.store.meta import prepare
from segments.store.reader import read_catalog, read_meta
from segments.store.seen import remember
from segments.store.writer import Writer
from segments.sweep import sweep_store
from tests.engines import Engine
from tests.ledger_seed import seed
from tests.rest import PASSWORD, serving
from tests.segments.doors.crm_world import Crm, iso, sha256
from tests.segments.doors.rest_world import World, hashes, text_of, world_of

USER = "jane@shop.example"
EVER_S = 1e12
DEVICE = "38400000-8cf0-11bd-b23e-10b96e40000d"


@pytest.fixture
async def world(settings: Settings, ledger: AsyncEngine, valkey: Engine) -> AsyncIterator[World]:
    seeded = await seed(ledger)
    async with connect(valkey.url) as redis:
        await prepare(redis, settings.expected_ids)
        async with serving(settings, ledger, redis) as rest, world_of(rest, seeded) as world:
            yield world


@pytest.fixture
async def crm(world: World) -> Crm:
    await world.rest.user(USER, world.seeded.shop)
    crm = Crm(world)
    assert (await crm.login(USER)).status == 200
    return crm


async def shown_to(world: World, recipient: str | None) -> dict[int, Segment]:
    """Return what the bid path would show a recipient, by audience."""
    known = Catalog.from_snapshot(await read_catalog(world.redis)).recipient(recipient)
    assert known is not None
    return dict(known.segments)


# ---------------------------------------------------------------- login


async def test_login_answers_true_and_a_cookie_that_no_script_reads(world: World) -> None:
    await world.rest.user(USER, world.seeded.shop)

    answer = await Crm(world).login(USER.upper())

    assert answer.body == {
        "data": True,
        "status": {"statusCode": 0, "message": None},
        "success": True,
    }
    said = answer.headers["Set-Cookie"]
    assert said.startswith("digitalAudience=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=3600"} <= set(said.split("; "))
    assert "Secure" not in said


async def test_cookie_is_secure_where_partners_come_by_https(
    settings: Settings, ledger: AsyncEngine, valkey: Engine
) -> None:
    public = settings.model_copy(update={"api_public_url": "https://audiences.example"})
    seeded = await seed(ledger)
    async with connect(valkey.url) as redis:
        await prepare(redis, settings.expected_ids)
        async with serving(public, ledger, redis) as rest:
            await rest.user(USER, seeded.shop)
            said = {"userName": USER, "password": PASSWORD}
            answer = await rest.ask("POST", "/account/login", said)

    assert "Secure" in answer.headers["Set-Cookie"].split("; ")


async def test_guesses_are_slowed_down_for_all_doors_together(world: World) -> None:
    await world.rest.user(USER, world.seeded.shop)
    crm = Crm(world)

    wrong = [(await crm.login(USER, "wrong")).status for _ in range(3)]
    wrong += [(await world.rest.login(USER, "wrong")).status for _ in range(2)]
    answer = await crm.login(USER)

    assert wrong == [401] * 5
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.body["data"] is None
    assert answer.body["status"]["statusCode"] == 429
    assert answer.body["success"] is False


async def test_logout_ends_every_copy_of_the_cookie(crm: Crm) -> None:
    audience_id = await crm.audience()
    copy = crm.cookie

    answer = await crm.ask("POST", "/account/logout")
    crm.cookie = copy
    after = await crm.ask("GET", f"/audience/loadAudienceById/{audience_id}")
    again = await crm.ask("POST", "/account/logout")

    assert (answer.status, again.status) == (200, 200)
    assert 'digitalAudience=""' in answer.headers["Set-Cookie"]
    assert after.status == 401


async def test_nobody_is_answered_in_the_envelope(crm: Crm) -> None:
    for cookie in ("", "digitalAudience=123", "digitalAudience=a.b.c", "other=1"):
        crm.cookie = cookie

        answer = await crm.ask("GET", "/audience/loadAudienceById/1")

        assert (answer.status, cookie) == (401, cookie)
        assert answer.body["data"] is None
        assert answer.body["status"]["statusCode"] == 401
        assert answer.content_type == "application/json"


async def test_cookie_expires(crm: Crm) -> None:
    crm.world.rest.clock.ahead_s = 3601

    assert (await crm.ask("GET", "/audience/loadAudienceById/1")).status == 401


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
        segment = (await shown_to(crm.world, recipient))[audience_id]
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
    segment = (await shown_to(world, "dsp-a"))[audience_id]
    assert segment.segment_id == str(activated["segmentId"])
    assert (segment.live_from_s, segment.live_until_s) == (1798761600, 1801436399)
    for recipient in ("dsp-b", None):
        assert (await shown_to(world, recipient))[audience_id].live_until_s == 0
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
    segment = (await shown_to(crm.world, "dsp-a"))[audience_id]
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


# ---------------------------------------------------------------- data


def csv_of(*rows: tuple[str, ...], head: str = "EMAIL,PHONE,POSTALADDRESS,AAID") -> bytes:
    return "".join(f"{line}\r\n" for line in [head, *(",".join(row) for row in rows)]).encode()


ALICE, BOB, CAROL = (sha256(f"{name}@example.com") for name in ("alice", "bob", "carol"))
PHONE, ADDRESS = sha256("31612345678"), sha256("1234AB 5")
FILE = csv_of(
    (ALICE, PHONE, ADDRESS, DEVICE),
    (BOB, PHONE, "", ""),
    (BOB, "", ADDRESS, ""),
    ("carol@example.com", "", ADDRESS, ""),
)


async def test_upload_is_counted_against_what_the_store_knew_before(crm: Crm) -> None:
    world = crm.world
    await world.rest.ask(
        "POST",
        "/realtime/audience/123?type=sha2",
        data=text_of([ALICE, BOB]),
        headers={"Content-Type": "text/plain"},
    )
    services = world.rest.services
    await record_opt_out(
        services.ledger, world.redis, Action.RESTRICT, [(Kind.EMAIL, id_of_email_hash(BOB))]
    )
    audience_id = await crm.audience()
    job = await crm.deliver(audience_id, FILE, records=4)
    waiting = await crm.load(audience_id)

    await world.load_all()

    loaded = await crm.load(audience_id)
    assert (waiting["audienceState"], waiting["crmData"]["insightsState"]) == (
        "PROCESSING",
        "PENDING",
    )
    assert (loaded["audienceState"], loaded["audienceStateId"]) == ("READY", 1)
    assert loaded["dataUpdated"] is not None
    crm_data = loaded["crmData"]
    assert (crm_data["insightsState"], crm_data["size"]) == ("READY", 4)
    assert crm_data["history"]["totalEvents"] == 1
    ((at, upload),) = crm_data["history"]["history"].items()
    assert at == upload["created"]
    assert upload == {
        "audienceId": audience_id,
        "mode": "opt-in",
        "totalRows": 4,
        "created": at,
        "dataSet": {
            "EMAIL": {"TOTAL": 4, "UNIQUE": 2, "MATCH": 2, "UMATCH": 1, "NOMATCH": 0},
            "PHONE": {"TOTAL": 2, "UNIQUE": 1, "MATCH": 0, "UMATCH": 0, "NOMATCH": 1},
            "POSTALADDRESS": {"TOTAL": 3, "UNIQUE": 1, "MATCH": 0, "UMATCH": 0, "NOMATCH": 1},
            "AAID": {"TOTAL": 1, "UNIQUE": 1, "MATCH": 0, "UMATCH": 0, "NOMATCH": 1},
        },
        "matchRates": {"EMAIL": 1.0, "PHONE": 0.0, "POSTALADDRESS": 0.0, "AAID": 0.0},
    }
    assert job.state is State.QUEUED


async def test_only_what_a_bid_can_hold_becomes_an_id(crm: Crm) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, FILE, records=4)

    await crm.world.load_all()

    ids = [
        id_of_email_hash(ALICE),
        id_of_email_hash(BOB),
        id_of_phone_hash(PHONE),
        id_of_ifa(DEVICE),
        id_of_email_hash(ADDRESS),
        id_of_email_hash(CAROL),
    ]
    assert await crm.members(audience_id, ids) == [True] * 4 + [False] * 2


async def test_what_is_kept_of_a_typed_file_is_its_ids_alone(crm: Crm, settings: Settings) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, FILE, records=4)

    (job,) = await crm.world.load_all()

    with crm.kept(job).buffered() as kept:
        content = kept.read()
    ids = {content[at : at + 16] for at in range(0, len(content), 16)}
    assert ids == {
        id_of_email_hash(ALICE), id_of_email_hash(BOB), id_of_phone_hash(PHONE), id_of_ifa(DEVICE)
    }  # fmt: skip
    everything = b"".join(
        path.read_bytes() for path in (settings.data_dir / "blobs").rglob("*") if path.is_file()
    )
    assert ADDRESS.encode() not in everything
    assert bytes.fromhex(ADDRESS)[:16] not in everything
    assert b"carol@" not in everything


async def test_job_that_is_taken_up_again_goes_on_from_the_ids(
    crm: Crm, settings: Settings
) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, FILE, records=4)
    loader, stopping = crm.world.loader, asyncio.Event()
    await loader.catch_up()
    job = await loader.claim()
    assert job is not None

    def stop_at_the_ids(running: Job) -> None:
        if running.report.is_ids:
            stopping.set()

    stopped = await loader.run_one(job, stopping, stop_at_the_ids)
    (ended,) = await crm.world.load_all()

    assert (stopped.state, stopped.report.is_ids) == (State.QUEUED, True)
    assert (ended.state, ended.report.rows, ended.report.added) == (State.DONE, 4, 4)
    kept = [p for p in (settings.data_dir / "blobs").rglob("*") if p.is_file()]
    assert [str(p).endswith(ended.blob) for p in kept] == [True]
    history = (await crm.load(audience_id))["crmData"]["history"]
    assert history["totalEvents"] == 1
    (upload,) = history["history"].values()
    assert upload["dataSet"]["EMAIL"]["MATCH"] == 0


async def test_file_of_one_column_of_hashes_is_e_mail(crm: Crm) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, text_of(hashes("alice", "bob", "bob")), records=3)
    await crm.world.load_all()
    await crm.deliver(
        audience_id, text_of(["email", *hashes("bob", "dave", kind="sha256")]), records=2
    )

    await crm.world.load_all()

    crm_data = (await crm.load(audience_id))["crmData"]
    assert crm_data["size"] == 5
    first, second = crm_data["history"]["history"].values()
    assert first["dataSet"] == {
        "EMAIL": {"TOTAL": 3, "UNIQUE": 2, "MATCH": 0, "UMATCH": 0, "NOMATCH": 2}
    }
    assert second["dataSet"] == {
        "EMAIL": {"TOTAL": 2, "UNIQUE": 2, "MATCH": 1, "UMATCH": 1, "NOMATCH": 1}
    }
    assert second["matchRates"] == {"EMAIL": 0.5}


async def test_ids_that_were_only_seen_in_bids_match_where_the_store_remembers_them(
    crm: Crm,
) -> None:
    world = crm.world
    now_s = world.rest.clock()
    dave, erin = sha256("dave@example.com"), sha256("erin@example.com")
    for digest, at_s in ((ALICE, now_s), (BOB, now_s), (dave, now_s - 30 * 86_400)):
        await remember(world.redis, [id_of_email_hash(digest)], at_s)
    await remember(world.redis, [id_of_phone_hash(PHONE)], now_s)
    # Of Bob there is nothing but that he said no.
    await record_opt_out(
        world.rest.services.ledger,
        world.redis,
        Action.ERASURE,
        [(Kind.EMAIL, id_of_email_hash(BOB))],
    )
    audience_id = await crm.audience()
    rows = [(ALICE, PHONE), (ALICE, PHONE), (BOB, ""), (dave, ""), (erin, "")]
    await crm.deliver(audience_id, csv_of(*rows, head="EMAIL,PHONE"), records=5)

    await world.load_all()

    ((_, upload),) = (await crm.load(audience_id))["crmData"]["history"]["history"].items()
    assert upload["dataSet"] == {
        "EMAIL": {"TOTAL": 5, "UNIQUE": 4, "MATCH": 3, "UMATCH": 2, "NOMATCH": 1},
        "PHONE": {"TOTAL": 2, "UNIQUE": 1, "MATCH": 1, "UMATCH": 1, "NOMATCH": 0},
    }


async def test_id_that_the_store_knows_and_that_was_seen_matches_once(crm: Crm) -> None:
    first = await crm.audience("First")
    await crm.deliver(first, text_of([ALICE, BOB]), records=2)
    await crm.world.load_all()
    carol = sha256("carol@example.com")
    seen = [id_of_email_hash(digest) for digest in (ALICE, carol)]
    await remember(crm.world.redis, seen, crm.world.rest.clock())
    second = await crm.audience("Second")
    await crm.deliver(second, text_of([ALICE, BOB, carol, sha256("erin")]), records=4)

    await crm.world.load_all()

    ((_, upload),) = (await crm.load(second))["crmData"]["history"]["history"].items()
    assert upload["dataSet"] == {
        "EMAIL": {"TOTAL": 4, "UNIQUE": 4, "MATCH": 3, "UMATCH": 3, "NOMATCH": 1}
    }


async def test_opt_out_upload_removes_and_is_told_as_such(crm: Crm) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, FILE, records=4)
    await crm.deliver(audience_id, csv_of((PHONE,), head="PHONE"), records=1, action="remove")

    await crm.world.load_all()

    assert await crm.members(audience_id, [id_of_phone_hash(PHONE), id_of_ifa(DEVICE)]) == [
        False,
        True,
    ]
    loaded = (await crm.load(audience_id))["crmData"]
    assert [u["mode"] for u in loaded["history"]["history"].values()] == ["opt-in", "opt-out"]
    assert loaded["size"] == 4


async def test_upload_of_nothing_that_is_an_id_is_counted_all_the_same(crm: Crm) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, csv_of((ADDRESS,), head="POSTALADDRESS"), records=1)

    (job,) = await crm.world.load_all()

    assert job.state is State.DONE
    assert (await crm.load(audience_id))["crmData"]["size"] == 1


async def test_typed_file_that_fails_is_not_kept(crm: Crm, settings: Settings) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, FILE, records=99)

    (job,) = await crm.world.load_all()

    assert (job.state, job.blob) == (State.FAILED, "")
    assert not [p for p in (settings.data_dir / "blobs").rglob("*") if p.is_file()]
    loaded = await crm.load(audience_id)
    assert (loaded["audienceState"], loaded["crmData"]) == ("NODATA", None)


async def test_typed_columns_are_for_audiences_of_this_door_alone(crm: Crm) -> None:
    await crm.deliver(123, FILE, records=4)

    (job,) = await crm.world.load_all()

    assert job.stop is not None
    assert job.stop.value == "no_valid_record"


async def test_chunk_is_counted_as_a_file_is(crm: Crm) -> None:
    audience_id = await crm.audience()

    answer = await crm.world.rest.ask(
        "POST",
        f"/realtime/audience/{audience_id}?type=sha2",
        data=text_of([ALICE]),
        headers={"Content-Type": "text/plain"},
    )
    await crm.world.load_all()

    assert (answer.status, answer.body["output"]["status"]) == (202, "waiting")
    assert (await crm.load(audience_id))["crmData"]["size"] == 1
    assert await crm.members(audience_id, [id_of_email_hash(ALICE)]) == [True]


async def test_presigned_upload_takes_typed_columns_too(crm: Crm) -> None:
    audience_id = await crm.audience()
    rest = crm.world.rest
    form = {"filename": "crm.csv", "action": "add", "type": "sha2"}
    presigned = await rest.ask("POST", f"/audience/upload/{audience_id}", form)

    put = await rest.ask("PUT", presigned.body["output"]["presignedURI"], data=FILE)
    await crm.world.load_all()

    assert put.status == 200
    assert await crm.members(audience_id, [id_of_phone_hash(PHONE)]) == [True]


async def test_rebuild_makes_the_same_store_from_the_ids(crm: Crm) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, FILE, records=4)
    await crm.world.load_all()
    before = await _records(crm)

    await _rebuild(crm)

    assert await _records(crm) == before
    assert before


async def test_erased_person_is_scrubbed_from_the_ids_that_are_kept(crm: Crm) -> None:
    """
    While the file waits it is left to its loader: what is kept of it is not there yet.
    """
    audience_id = await crm.audience()
    await crm.deliver(audience_id, FILE, records=4)
    services = crm.world.rest.services
    alice, phone = id_of_email_hash(ALICE), id_of_phone_hash(PHONE)
    erased = [(Kind.EMAIL, alice), (Kind.PHONE, phone)]
    await record_opt_out(services.ledger, crm.world.redis, Action.ERASURE, erased)
    scrubber = Scrubber(
        services.ledger, services.blobs, services.settings.data_dir / "spool", services.now_s
    )

    waiting = await scrubber.scrub(EVER_S)
    await crm.world.load_all()
    lost = await _records(crm)
    kept_before = await _blobs(crm)
    done = await scrubber.scrub(EVER_S)
    kept = await _blobs(crm)
    await _rebuild(crm)

    assert (waiting.at_work, waiting.rewritten) == (1, 0)
    assert bytes(alice) in kept_before
    assert bytes(phone) in kept_before
    assert (done.rewritten, done.lines) == (1, 3)  # the phone stands there twice
    assert bytes(alice) not in kept
    assert bytes(phone) not in kept
    assert bytes(id_of_email_hash(BOB)) in kept
    assert await _records(crm) == lost
    assert (await scrubber.scrub(EVER_S)).rewritten == 0


async def _blobs(crm: Crm) -> bytes:
    blobs = crm.world.rest.services.blobs
    return b"".join([blobs.get(name).read() for name in await blobs.names()])


# ---------------------------------------------------------------- deletion


async def _deleted(crm: Crm, audience_id: int) -> None:
    assert await crm.data("DELETE", f"/audience/delete?audienceId={audience_id}") is True


async def _sweep(crm: Crm) -> None:
    redis, services = crm.world.redis, crm.world.rest.services
    writer = Writer(redis, await read_meta(redis))
    await sweep_store(services.ledger, redis, writer, services.now_s())


async def _records(crm: Crm) -> dict[Any, Any]:
    redis = crm.world.redis
    found = redis.scan_iter(keys.BUCKET_PREFIX + b"*")
    return {key: await redis.hgetall(key) async for key in found}


async def _rebuild(crm: Crm) -> None:
    services = crm.world.rest.services
    tools = crm.world.loader._tools
    await rebuild(tools, services.settings.expected_ids, settle_s=0)


async def _jobs(crm: Crm) -> list[Job]:
    async with crm.world.rest.services.ledger.connect() as conn:
        return list(await jobs.jobs(conn, 100))


async def test_delete_is_told_which_by_query_or_body(crm: Crm) -> None:
    for query, member in [("?audienceId={}", ""), ("?id={}", ""), ("", "audienceId"), ("", "id")]:
        audience_id = await crm.audience()

        answer = await crm.data(
            "DELETE",
            f"/audience/delete{query.format(audience_id)}",
            {member: str(audience_id)} if member else None,
        )

        assert answer is True
        gone = await crm.ask("GET", f"/audience/loadAudienceById/{audience_id}")
        again = await crm.ask("DELETE", f"/audience/delete?id={audience_id}")
        assert (gone.status, again.status) == (404, 404)


async def test_deleted_audience_is_gone_from_every_store_and_stays_away(
    crm: Crm, settings: Settings
) -> None:
    audience_id = await crm.audience("A name that tells")
    await crm.data("POST", "/audience/update", {"id": audience_id, "description": "One that tells"})
    await crm.deliver(audience_id, FILE, records=4)
    await crm.deliver(audience_id, text_of([CAROL]), records=1)
    await crm.world.load_all()
    await crm.activate(audience_id)
    await crm.deliver(audience_id, FILE, records=4)  # to come

    await _deleted(crm, audience_id)

    assert audience_id not in await shown_to(crm.world, "dsp-a")
    assert not [p for p in (settings.data_dir / "blobs").rglob("*") if p.is_file()]
    async with crm.world.rest.services.ledger.connect() as conn:
        for table in ("activations", "crm_uploads", "uploads"):
            assert (await conn.execute(text(f"select count(*) from {table}"))).scalar_one() == 0
        names = await conn.execute(text(f"select name from audiences where id = {audience_id}"))
        assert names.scalar_one() == ""
        said = await conn.execute(text("select description from crm_audiences"))
        assert said.scalars().all() == [None]
    assert [job.state for job in await _jobs(crm)] == [State.FAILED, State.DONE, State.DONE]
    assert await crm.world.load_all() == []
    await _sweep(crm)
    assert await _records(crm) == {}
    await _rebuild(crm)
    assert await _records(crm) == {}


async def test_deletion_asks_for_a_sweep_before_the_day_is_over(crm: Crm) -> None:
    audience_id = await crm.audience()
    await crm.world.redis.set(keys.SWEPT, 1)

    await _deleted(crm, audience_id)

    assert await crm.world.redis.get(keys.SWEPT) is None


async def test_file_that_others_need_too_is_kept_for_them(crm: Crm) -> None:
    audience_id = await crm.audience()
    segments = [("123", "add"), (str(audience_id), "add")]
    await crm.deliver(audience_id, text_of([ALICE]), records=1, segments=segments)
    await crm.world.load_all()

    await _deleted(crm, audience_id)
    await _rebuild(crm)

    ids = [id_of_email_hash(ALICE)]
    assert await crm.members(crm.world.seeded.shoes.id, ids) == [True]
    assert await crm.members(audience_id, ids) == [False]


async def test_file_that_goes_on_coming_for_a_deleted_audience_makes_no_other(
    crm: Crm, settings: Settings
) -> None:
    audience_id = await crm.audience()
    await _deleted(crm, audience_id)
    await crm.deliver(audience_id, FILE, records=4)

    (job,) = await crm.world.load_all()

    assert job.stop is not None
    assert job.stop.value == "audience_deleted"
    assert not [p for p in (settings.data_dir / "blobs").rglob("*") if p.is_file()]
    assert await _records(crm) == {}


async def test_audience_deleted_while_its_file_is_at_work_leaves_nothing(
    crm: Crm, settings: Settings
) -> None:
    audience_id = await crm.audience()
    await crm.deliver(audience_id, FILE, records=4)
    loader = crm.world.loader
    await loader.catch_up()
    job = await loader.claim()
    assert job is not None

    deleting: list[bool] = []

    async def delete_once() -> None:
        await _deleted(crm, audience_id)

    def show(running: Job) -> None:
        if running.report.is_ids and not deleting:
            deleting.append(True)
            task.append(asyncio.ensure_future(delete_once()))

    task: list[asyncio.Future[None]] = []
    ended = await loader.run_one(job, asyncio.Event(), show)
    await task[0]

    again = [j for j in await _jobs(crm) if j.id == ended.id]
    assert [j.report.segments for j in again] == [()]
    assert not [p for p in (settings.data_dir / "blobs").rglob("*") if p.is_file()]
