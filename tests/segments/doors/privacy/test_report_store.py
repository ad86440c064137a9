"""Reports of access requests: what they tell, who gets them, and when they are gone."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.callback_sender import Callbacks
from segments.ledger import callbacks
from segments.ledger.privacy import access_requests, opt_outs
from segments.model.identity import IdentifierKind, id_of_email_hash
from segments.model.record import OptOutAction
from segments.projection.opt_outs import record_opt_out
from segments.settings import Settings
from segments.store import keys
from segments.store.reader import read_meta
from tests.engines import Engine
from tests.rest import Rest
from tests.segments.doors.privacy.privacy_world import (
    ADA,
    BOB,
    REQUESTS,
    PrivacyDoors,
    privacy_world,
)
from tests.segments.doors.test_callback_sender import HOST, Names

DUID = "a71defad6e35--01gm6nvbatvjfjkvs9yd9wc7tt"


@pytest.fixture
async def world(
    settings: Settings, ledger: AsyncEngine, valkey: Engine
) -> AsyncIterator[PrivacyDoors]:
    allowing = settings.model_copy(update={"callback_hosts": (HOST,)})
    async with privacy_world(allowing, ledger, valkey) as world:
        yield world


@pytest.fixture
async def officer(world: PrivacyDoors) -> Rest:
    return await world.bearer(is_internal=True)


def blobs_in(world: PrivacyDoors) -> list[str]:
    folder = world.rest.settings.data_dir / "blobs" / "reports"
    return [path.name for path in folder.rglob("*") if path.is_file()]


async def told(officer: Rest, transaction_id: str) -> Any:
    answer = await officer.ask("GET", f"{REQUESTS}/{transaction_id}")
    assert answer.status == 200, answer
    return answer.body


async def download_url(world: PrivacyDoors, officer: Rest) -> tuple[str, str]:
    """Return a made report's transaction id and URL."""
    transaction_id = await world.taken(officer, "ACCESS", ADA)
    await world.rest.reports.turn()
    return transaction_id, (await told(officer, transaction_id))["downloadUrl"]


async def test_report_tells_everything_that_is_held_of_the_ids(
    world: PrivacyDoors, officer: Rest
) -> None:
    await world.add_members(ADA)
    shops = await world.taken(await world.bearer(world.seeded.shop), "RESTRICT", ADA)
    transaction_id = await world.taken(
        officer, "ACCESS", BOB, ADA, liveIntentFpcs=[DUID], jurisdiction="US_PRIVACY"
    )

    report = await world.report(officer, transaction_id)

    nothing: dict[str, Any] = {"memberships": [], "optOuts": [], "requests": []}
    bob, ada, cookie = report["identifiers"]
    assert bob == {"position": 1, "kind": "email", **nothing}
    assert cookie == {"position": 3, "kind": "duid", **nothing}
    assert report["jurisdiction"] == "US_PRIVACY"
    assert report["scope"] == {"Global": {}}
    assert ada["memberships"] == [
        {
            "audience": {"number": 1, "segmentId": "123", "name": "Shoes", "state": "active"},
            "owner": {"id": "shop", "name": "Shop"},
            "partner": {"id": "shop", "name": "Shop"},
            "expiresOn": "2028-03-19",
        },
        {
            "audience": {"number": 2, "segmentId": "123", "name": "Hats", "state": "active"},
            "owner": {"id": "sub", "name": "Sub"},
            "partner": {"id": "agency", "name": "Agency"},
            "expiresOn": None,
        },
    ]
    (opt_out,) = ada["optOuts"]
    assert (opt_out["action"], opt_out["scope"]) == ("RESTRICT", {"Advertiser": {"id": "shop"}})
    assert [each["transactionId"] for each in ada["requests"]] == [shops]


async def test_report_names_nobody(world: PrivacyDoors, officer: Rest) -> None:
    """
    Whoever finds a report that was lost does not learn whose it is.
    """
    await world.add_members(ADA)
    transaction_id = await world.taken(officer, "ACCESS", ADA, liveIntentFpcs=[DUID])

    text = json.dumps(await world.report(officer, transaction_id))

    assert ADA[:32] not in text
    assert DUID not in text


async def test_request_is_pending_until_its_report_is_made(
    world: PrivacyDoors, officer: Rest
) -> None:
    transaction_id = await world.taken(officer, "ACCESS", ADA)
    before = await told(officer, transaction_id)

    await world.rest.reports.turn()
    after = await told(officer, transaction_id)

    assert (before["status"], "downloadUrl" in before) == ("pending", False)
    assert (after["status"], "downloadUrl" in after) == ("completed", True)
    assert await world.rest.reports.turn() == 0, "made once"


async def test_access_request_puts_nothing_into_force(world: PrivacyDoors, officer: Rest) -> None:
    await world.add_members(ADA)
    before = await world.record(ADA)

    await world.taken(officer, "ACCESS", ADA)

    assert await world.record(ADA) == before
    async with world.rest.services.ledger.connect() as conn:
        assert await opt_outs.last_seq(conn) == 0


async def test_report_waits_for_a_store_that_is_away(
    world: PrivacyDoors, officer: Rest, valkey: Engine
) -> None:
    stopping = asyncio.Event()
    valkey.kill()
    transaction_id = await world.taken(officer, "ACCESS", ADA)
    running = asyncio.create_task(world.rest.reports.run(stopping))
    await asyncio.sleep(0)
    valkey.start()

    async with asyncio.timeout(20):
        while (await told(officer, transaction_id))["status"] != "completed":  # noqa: ASYNC110 - another task's doing, seen by asking
            await asyncio.sleep(0.02)
    stopping.set()
    await running


async def test_report_that_a_bug_keeps_from_being_made_keeps_no_other(
    world: PrivacyDoors, officer: Rest, caplog: pytest.LogCaptureFixture
) -> None:
    broken = await world.taken(officer, "ACCESS", ADA)
    async with world.rest.services.ledger.begin() as conn:
        await conn.exec_driver_sql("update access_request_ids set kind = 'unknown'")
    transaction_id = await world.taken(officer, "ACCESS", BOB)

    made = [await world.rest.reports.turn() for _ in range(2)]

    assert made == [1, 0]
    assert (await told(officer, transaction_id))["status"] == "completed"
    assert caplog.text.count("ValueError") == 1
    assert broken not in caplog.text


async def test_report_of_an_officer_of_one_account_shows_what_that_reaches(
    world: PrivacyDoors,
) -> None:
    """
    One partner is never shown what another one holds.
    """
    await world.add_members(ADA)
    await world.taken(await world.bearer(), "RESTRICT", ADA)
    officer = await world.bearer(world.seeded.publisher, is_internal=True)
    transaction_id = await world.taken(officer, "ACCESS", ADA)

    (ada,) = (await world.report(officer, transaction_id))["identifiers"]

    assert [each["owner"]["id"] for each in ada["memberships"]] == ["shop"]
    assert (ada["optOuts"], ada["requests"]) == ([], [])


async def test_record_that_cant_be_read_is_told_as_such(world: PrivacyDoors, officer: Rest) -> None:
    meta = await read_meta(world.redis)
    id_ = id_of_email_hash(ADA)
    key = keys.bucket_key(keys.bucket_of(id_, meta.bucket_bits))
    await world.redis.execute_command("HSET", key, keys.field_of(id_), b"\xff")  # type: ignore[no-untyped-call]
    transaction_id = await world.taken(officer, "ACCESS", ADA)

    (ada,) = (await world.report(officer, transaction_id))["identifiers"]

    assert ada["unreadable"] is True


# ---------------------------------------------------------------- links


async def test_link_is_permission_enough_and_nothing_in_it_may_be_changed(
    world: PrivacyDoors, officer: Rest
) -> None:
    transaction_id, url = await download_url(world, officer)
    other = url.replace(transaction_id, "0" * 32)
    changed = [
        url[:-1] + ("0" if url[-1] != "0" else "1"),
        other,
        url.replace("expiresAt=1", "expiresAt=2"),
    ]
    path = f"/data-subject-report/{transaction_id}"
    missing = [path, f"{path}?expiresAt=1", f"{path}?signature=00"]

    good = await world.rest.ask("GET", url, allow_redirects=False)
    refused = [await world.rest.ask("GET", each, allow_redirects=False) for each in changed]
    wrong = [await world.rest.ask("GET", each, allow_redirects=False) for each in missing]

    assert good.status == 303
    assert [answer.status for answer in refused] == [403] * 3
    assert [answer.status for answer in wrong] == [400] * 3
    assert {answer.body["errorCode"] for answer in refused} == {"BAD_SIGNATURE"}
    assert [each["what"] for each in await world.trail()] == ["ACCESS", "read", "download"]


async def test_link_expires(world: PrivacyDoors, officer: Rest) -> None:
    _, url = await download_url(world, officer)
    world.rest.clock.ahead_s += world.rest.settings.report_url_s

    answer = await world.rest.ask("GET", url, allow_redirects=False)

    assert (answer.status, answer.body["errorCode"]) == (403, "LINK_EXPIRED")


async def test_url_that_a_redirect_leads_to_is_signed_and_short_lived(
    world: PrivacyDoors, officer: Rest
) -> None:
    transaction_id, url = await download_url(world, officer)
    location = (await world.rest.ask("GET", url, allow_redirects=False)).headers["Location"]

    good = await world.rest.ask("GET", location)
    unsigned = await world.rest.ask("GET", f"/reports/{transaction_id}.json")
    world.rest.clock.ahead_s += 61
    late = await world.rest.ask("GET", location)

    assert (good.status, unsigned.status, late.status) == (200, 403, 403)
    assert "attachment" in good.headers["Content-Disposition"]


async def test_report_expires_and_is_deleted(world: PrivacyDoors, officer: Rest) -> None:
    transaction_id, _ = await download_url(world, officer)
    assert blobs_in(world) != []

    world.rest.clock.ahead_s += world.rest.settings.report_days * 86_400
    officer = await world.bearer(is_internal=True)
    await world.rest.reports.turn()

    assert (await told(officer, transaction_id))["status"] == "expired"
    assert "downloadUrl" not in await told(officer, transaction_id)
    assert blobs_in(world) == []
    assert await world.rest.reports.turn() == 0


async def test_link_to_a_report_that_is_gone_is_404(world: PrivacyDoors, officer: Rest) -> None:
    transaction_id, url = await download_url(world, officer)
    async with world.rest.services.ledger.begin() as conn:
        access = await access_requests.find(conn, transaction_id)
        assert access is not None
        await access_requests.expire(conn, access)

    assert (await world.rest.ask("GET", url, allow_redirects=False)).status == 404


# ---------------------------------------------------------------- erasure


async def test_erased_memberships_are_gone_from_reports_when_it_is_answered(
    world: PrivacyDoors, officer: Rest
) -> None:
    await world.add_members(ADA)
    transaction_id, url = await download_url(world, officer)
    location = (await world.rest.ask("GET", url, allow_redirects=False)).headers["Location"]

    await world.taken(await world.bearer(), "ERASURE", ADA)

    assert [
        (await world.rest.ask("GET", each, allow_redirects=False)).status
        for each in (url, location)
    ] == [404, 404]
    assert blobs_in(world) == [], "not even its bytes are left"
    (ada,) = (await world.report(officer, transaction_id))["identifiers"]
    assert ada["memberships"] == []
    assert [each["action"] for each in ada["optOuts"]] == ["ERASURE"]


async def test_erasure_on_the_command_line_withdraws_reports_as_well(
    world: PrivacyDoors, officer: Rest
) -> None:
    await world.add_members(ADA)
    _, url = await download_url(world, officer)
    services = world.rest.services
    ids = [(IdentifierKind.EMAIL, id_of_email_hash(ADA))]

    await record_opt_out(services.ledger, services.redis, OptOutAction.ERASURE, ids)

    assert (await world.rest.ask("GET", url, allow_redirects=False)).status == 404
    before = blobs_in(world)
    await world.rest.reports.turn()
    assert not set(before) & set(blobs_in(world))


async def test_report_that_was_begun_before_an_erasure_is_not_taken(
    world: PrivacyDoors, officer: Rest
) -> None:
    """
    It was read from the store before, and is written after; the ledger knows.
    """
    await world.add_members(ADA)
    transaction_id = await world.taken(officer, "ACCESS", ADA)
    ledger = world.rest.services.ledger
    async with ledger.begin() as conn:
        begun = await access_requests.find(conn, transaction_id)
        assert begun is not None
        await access_requests.withdraw(conn, [id_of_email_hash(ADA)])

    async with ledger.begin() as conn:
        taken = await access_requests.complete(conn, begun, "reports/x", now_s=0, expires_at_s=1)

    assert not taken
    assert "downloadUrl" not in await told(officer, transaction_id)


async def test_erasure_that_the_store_has_not_heard_of_counts_already(
    world: PrivacyDoors, officer: Rest, valkey: Engine
) -> None:
    await world.add_members(ADA)
    await world.redis.save()
    valkey.kill()
    waits = await world.submit(await world.bearer(world.seeded.shop), "ERASURE", ADA)
    valkey.start()
    await world.add_members(ADA)
    transaction_id = await world.taken(officer, "ACCESS", ADA)

    (ada,) = (await world.report(officer, transaction_id))["identifiers"]

    assert waits.status == 503
    assert [each["owner"]["id"] for each in ada["memberships"]] == ["sub"]


async def test_report_of_a_process_that_ended_before_it_was_noted_is_deleted(
    world: PrivacyDoors, officer: Rest
) -> None:
    await download_url(world, officer)
    await world.rest.services.blobs.put("reports/left-behind.json", [b"{}"])
    (kept,) = set(blobs_in(world)) - {"left-behind.json"}

    for _ in range(2):
        world.rest.clock.ahead_s += 3601
        await world.rest.reports.turn()

    assert blobs_in(world) == [kept]


# ---------------------------------------------------------------- callback


@pytest.mark.parametrize(
    "callback",
    [
        "https://elsewhere.example/x",
        "ftp://cb.example/x",
        "cb.example",
        "http://[",
        "https://127.0.0.1/",
    ],
)
async def test_callback_that_cant_be_called_refuses_an_access_request(
    world: PrivacyDoors, officer: Rest, callback: str
) -> None:
    answer = await world.submit(officer, "ACCESS", ADA, callback=callback)

    assert (answer.status, answer.body["errorCode"]) == (400, "BAD_CALLBACK")
    assert await world.count("access_requests") == 0


async def test_callback_that_cant_be_called_refuses_no_opt_out(world: PrivacyDoors) -> None:
    """
    It is for ACCESS alone, and a person's no is not lost to it.
    """
    await world.taken(await world.bearer(), "RESTRICT", ADA, callback="https://elsewhere.example/")

    assert (await world.record(ADA)).opt_outs != ()


async def test_callback_is_called_once_when_the_report_is_there(
    world: PrivacyDoors, officer: Rest
) -> None:
    received: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        received.append(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/done", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    sender = Callbacks(
        world.rest.services.ledger,
        (HOST,),
        world.rest.clock,
        may_reach=lambda _: True,
        resolver=Names("127.0.0.1"),
    )
    transaction_id = await world.taken(
        officer, "ACCESS", ADA, callback=f"http://{HOST}:{port}/done"
    )
    assert await sender.turn() == 0

    await world.rest.reports.turn()
    await sender.turn()
    await world.taken(await world.bearer(), "ERASURE", ADA)
    await world.rest.reports.turn()
    again = await sender.turn()
    await runner.cleanup()

    assert received == [{"transactionId": transaction_id, "status": "completed"}]
    assert again == 0, "made anew, it is not news"


async def test_callback_is_sent_by_one_of_the_processes_that_look(world: PrivacyDoors) -> None:
    now_s = world.rest.clock()
    async with world.rest.services.ledger.begin() as conn:
        await callbacks.add(conn, "1", f"http://{HOST}/", "{}", now_s=now_s)
        due = await callbacks.due(conn, now_s, 10)

    async with world.rest.services.ledger.begin() as conn:
        first = await callbacks.claim(conn, due, now_s, until_s=now_s + 30)
    async with world.rest.services.ledger.begin() as conn:
        second = await callbacks.claim(conn, due, now_s, until_s=now_s + 30)
        later = await callbacks.due(conn, now_s + 30, 10)

    assert (first, second) == (due, [])
    assert [callback.id for callback in later] == [callback.id for callback in due]
