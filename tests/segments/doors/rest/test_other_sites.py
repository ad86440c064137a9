"""A cookie acts for its person on pages of our own alone; a program never says where it is from."""

import pytest

from tests.rest import PASSWORD
from tests.segments.doors.crm_audience.crm_world import USER, Crm, crm, world
from tests.segments.doors.rest.rest_world import RestDoors

__all__ = ["crm", "world"]  # fixtures

_CREATE = ("POST", "/campaign/createcampaign", {"name": "x"})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 200, id="a program"),
        pytest.param({"Sec-Fetch-Site": "same-origin"}, 200, id="our page"),
        pytest.param({"Sec-Fetch-Site": "none"}, 200, id="the person"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, 403, id="another host of the site"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, 403, id="another site"),
        pytest.param({"Origin": "https://evil.example"}, 403, id="another site, an old browser"),
        pytest.param({"Origin": "null"}, 403, id="a sandboxed frame"),
    ],
)
async def test_pages_of_other_sites_change_nothing(
    crm: Crm, headers: dict[str, str], status: int
) -> None:
    with_cookie = {"Cookie": crm.cookie, "Authorization": "", **headers}
    said = {"userName": USER, "password": PASSWORD}

    ask = crm.world.rest.ask
    changed = await ask(*_CREATE, headers=with_cookie)
    looked = await ask("GET", "/organisation/loadplatformaccounts", headers=with_cookie)
    logged_in = await ask("POST", "/account/login", said, headers=headers)
    logged_out = await ask("POST", "/account/logout", headers=with_cookie)

    assert [each.status for each in (changed, logged_in, logged_out)] == [status] * 3
    assert looked.status == 200
    assert ("Set-Cookie" in logged_in.headers) == (status == 200)


async def test_old_browser_of_our_own_page_is_let_in(crm: Crm) -> None:
    host = crm.world.rest.url.removeprefix("http://")

    headers = {"Cookie": crm.cookie, "Authorization": "", "Origin": f"http://{host}"}
    answer = await crm.world.rest.ask(*_CREATE, headers=headers)

    assert answer.status == 200


async def test_no_answer_is_taken_for_what_it_does_not_say_it_is(world: RestDoors) -> None:
    paths = ("/openapi.json", "/docs", "/health/live", "/nowhere", "/account/login")
    answers = [await world.rest.ask("GET", path) for path in paths]

    assert {answer.headers["X-Content-Type-Options"] for answer in answers} == {"nosniff"}
    assert not any("Strict-Transport-Security" in answer.headers for answer in answers)
