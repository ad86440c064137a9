"""What passes no page: foreign pages, other ports, other accounts, other hosts."""

import re

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.console.options import ConsoleOptions, UnsafeConsole
from segments.model.role import Role
from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from tests.console import Served, serving_console
from tests.engines import Engine
from tests.ledger_seed import Seeded
from tests.rest import PASSWORD

_STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


async def test_every_answer_has_the_headers(console: Served, seeded: Seeded) -> None:
    async with console.user_of(seeded.shop) as shop:
        for path in ("/account", "/nowhere", "/login"):
            headers = (await shop.see(path)).headers
            assert headers["Content-Security-Policy"] == _STRICT
            assert headers["Cache-Control"] == "no-store"
            assert headers["Referrer-Policy"] == "same-origin"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert re.fullmatch("[0-9a-f]{16}", headers["X-Request-Id"])
            assert "Server" not in headers


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(
    console: Served, seeded: Seeded
) -> None:
    await console.user("jane", seeded.shop)
    async with console.browser() as browser:
        answer = await browser.send("/login", username="jane", password=PASSWORD)
    name, _, rest = answer.headers["Set-Cookie"].partition("=")
    assert name == "segments"
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(rest.split("; "))


async def test_behind_https_the_cookie_is_of_this_host_alone(
    settings: Settings, ledger: AsyncEngine, valkey: Engine, seeded: Seeded
) -> None:
    async with connect(valkey.url) as redis:
        await prepare(redis, settings.expected_ids)
        url = "https://console.example"
        async with serving_console(settings, ledger, redis, public_url=url) as console:
            await console.user("jane", seeded.shop)
            async with console.browser() as browser:
                said = {"username": "jane", "password": PASSWORD}
                origin = {"Origin": url, "Host": "console.example"}
                browser.headers.clear()
                answer = await browser.send("/login", headers=origin, **said)
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-segments=")
    assert "Secure" in cookie
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


async def test_only_pages_of_ours_may_send_forms(console: Served, seeded: Seeded) -> None:
    cases: list[tuple[dict[str, str], bool]] = [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": console.url}, True),
        ({"Sec-Fetch-Site": "cross-site", "Origin": console.url}, False),
    ]
    async with console.user_of(seeded.shop) as shop, console.browser() as stranger:
        for browser, path, taken in (
            (shop, "/account/password", 422),
            (stranger, "/login", 403),
        ):
            browser.headers.clear()
            for headers, is_ours in cases:
                answer = await browser.send(path, headers=headers, username="", again="x")
                assert answer.status == taken or not is_ours, headers
                assert ("was not sent by a page" in answer.said) is not is_ours, headers


async def test_a_form_without_the_sessions_token_does_nothing(
    console: Served, seeded: Seeded
) -> None:
    async with console.user_of(seeded.shop) as shop, console.user_of(seeded.agency) as agency:
        for token in ("", "0" * 64, "\u0660" * 64, agency.token):
            assert (await shop.send("/logout", _t=token)).status == 403
        assert (await shop.see("/account")).status == 200


async def test_the_cookie_of_the_rest_doors_is_no_login_here(
    console: Served, seeded: Seeded
) -> None:
    async with console.user_of(seeded.shop) as shop:
        (cookie,) = shop.session.cookie_jar
        token = cookie.value
    async with console.browser() as browser:
        for name in ("digitalAudience", "segments-staff", "__Host-segments"):
            sent = {"Cookie": f"{name}={token}"}
            assert (await browser.see("/account", headers=sent)).status == 303


async def test_staff_has_a_port_of_its_own_where_one_is_set(
    settings: Settings, ledger: AsyncEngine, valkey: Engine, seeded: Seeded
) -> None:
    async with connect(valkey.url) as redis:
        await prepare(redis, settings.expected_ids)
        async with serving_console(settings, ledger, redis, staff_port=0) as console:
            staffs = console.setting_to_url["SEGMENTS_CONSOLE_STAFF_PORT"]
            await console.member("ada", Role.OPERATOR)
            await console.user("jane", seeded.shop)
            said = {"password": PASSWORD}
            async with console.browser() as partners, console.browser(staffs) as desk:
                assert (await partners.send("/login", username="ada", **said)).status == 403
                assert (await desk.send("/login", username="jane", **said)).status == 403
                await desk.log_in_staff("ada", console.clock())
                await partners.log_in("jane")


async def test_another_name_of_the_loopback_address_is_refused(console: Served) -> None:
    async with console.browser() as browser:
        answer = await browser.see("/login", headers={"Host": "rebound.example"})
    assert answer.status == 421


@pytest.mark.parametrize(
    ("host", "public_url", "is_tls", "is_safe"),
    [
        ("127.0.0.1", None, False, True),
        ("::1", None, False, True),
        ("0.0.0.0", None, False, False),
        ("0.0.0.0", "http://console.example", False, False),
        ("0.0.0.0", "https://console.example", False, True),
        ("0.0.0.0", None, True, True),
    ],
)
def test_no_password_travels_in_clear(
    host: str, public_url: str | None, is_tls: bool, is_safe: bool
) -> None:
    options = ConsoleOptions(host, 8083, None, public_url, is_tls)
    if is_safe:
        options.check()
    else:
        with pytest.raises(UnsafeConsole, match="SEGMENTS_CONSOLE_PUBLIC_URL=https"):
            options.check()


async def test_assets_are_kept_for_good_under_their_hash(console: Served) -> None:
    async with console.browser() as browser:
        page = (await browser.see("/login")).text
        path = page.partition('rel="stylesheet" href="')[2].partition('"')[0]
        sheet = await browser.see(path)
        assert sheet.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert (await browser.see(path.replace("style", "other"))).status == 404


async def test_a_page_that_is_too_large_to_be_a_form_is_not_read(
    console: Served, seeded: Seeded
) -> None:
    async with console.user_of(seeded.shop) as shop:
        assert (await shop.send("/logout", long="x" * 100_000)).status == 413
