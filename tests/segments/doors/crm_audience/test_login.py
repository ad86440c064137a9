"""digitalAudience's login: a cookie, without which every request is refused."""

from sqlalchemy.ext.asyncio import AsyncEngine

from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.ledger_seed import seed
from tests.rest import PASSWORD, serving
from tests.segments.doors.crm_audience.crm_world import USER, Crm, crm, world
from tests.segments.doors.rest.rest_world import RestDoors

__all__ = ["crm", "world"]  # fixtures


async def test_login_answers_true_and_a_cookie_that_no_script_reads(world: RestDoors) -> None:
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


async def test_guesses_are_slowed_down_for_all_doors_together(world: RestDoors) -> None:
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
