"""Logins: who gets in, what ends it, and what is written down."""

import logging

import pyotp
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.acts import logins
from segments.acts import staff as acts
from segments.acts.trail import By
from segments.ledger import staff, users
from segments.ledger.privacy.audit import COMMAND_LINE, entries
from segments.model.role import Role
from tests.console import Served
from tests.ledger_seed import Seeded
from tests.rest import PASSWORD, QUICK


async def test_a_partners_user_logs_in_and_out(console: Served, seeded: Seeded) -> None:
    async with console.user_of(seeded.shop) as shop:
        assert "Shop" in (await shop.see("/account")).text
        out = await shop.send("/logout")
        assert (out.status, out.location) == (303, "/login?done=logout")
        assert "cookies" not in out.headers["Clear-Site-Data"]
        assert (await shop.see("/account")).location.startswith("/login")


async def test_a_wrong_name_and_a_wrong_password_get_one_answer(
    console: Served, seeded: Seeded
) -> None:
    await console.user("jane", seeded.shop)
    async with console.browser() as browser:
        wrong = await browser.send("/login", username="jane", password="not this one")
        nobody = await browser.send("/login", username="nobody", password="not this one")
    assert (wrong.status, wrong.text) == (nobody.status, nobody.text)
    assert "No user of that name has that password." in wrong.said


async def test_guesses_are_slowed_down_even_when_one_is_right(
    console: Served, seeded: Seeded
) -> None:
    await console.user("jane", seeded.shop)
    async with console.browser() as browser:
        for _ in range(5):
            await browser.send("/login", username="jane", password="not this one")
        refused = await browser.send("/login", username="jane", password=PASSWORD)
    assert refused.status == 429
    assert "again in 30 s" in refused.said


async def test_staff_needs_a_code_after_the_password(console: Served, seeded: Seeded) -> None:
    await console.member("ada", Role.OPERATOR)
    async with console.browser() as browser:
        await browser.send("/login", username="ada", password=PASSWORD)
        assert (await browser.see("/account")).location.startswith("/login")
        refused = await browser.send("/login/code", code="000000")
        assert refused.status == 403
        assert (await browser.see("/account")).status == 303


async def test_a_code_works_once_and_the_secret_is_shown_once(
    console: Served, seeded: Seeded
) -> None:
    await console.member("ada", Role.OPERATOR)
    async with console.browser() as first:
        secret = await first.log_in_staff("ada", console.clock())
    async with console.browser() as second:
        await second.send("/login", username="ada", password=PASSWORD)
        assert secret not in (await second.see("/login/code")).text
        code = pyotp.TOTP(secret).at(int(console.clock()))
        assert (await second.send("/login/code", code=code)).status == 403
        console.clock.ahead_s += 60
        code = pyotp.TOTP(secret).at(int(console.clock()))
        assert (await second.send("/login/code", code=code)).status == 303


async def test_the_secret_stays_the_same_until_a_code_of_it_was_right(
    console: Served, seeded: Seeded
) -> None:
    await console.member("ada", Role.OPERATOR)
    async with console.browser() as browser:
        await browser.send("/login", username="ada", password=PASSWORD)
        shown = (await browser.see("/login/code")).text.partition("secret=")[2][:32]
        assert await browser.log_in_staff("ada", console.clock()) == shown


async def test_codes_can_not_be_guessed_at_any_pace(console: Served, seeded: Seeded) -> None:
    await console.member("ada", Role.OPERATOR)
    async with console.browser() as browser:
        await browser.send("/login", username="ada", password=PASSWORD)
        answers = [await browser.send("/login/code", code=f"{n:06}") for n in range(6)]
    assert "again in 300 s" in answers[-1].said


@pytest.mark.parametrize(
    ("idle_s", "is_staff"), [(12 * 3600, False), (1800, True)], ids=["partner", "staff"]
)
async def test_a_session_ends_when_nobody_uses_it(
    console: Served, seeded: Seeded, idle_s: int, is_staff: bool
) -> None:
    who = console.staff_of(Role.OPERATOR) if is_staff else console.user_of(seeded.shop)
    async with who as browser:
        for _ in range(3):
            console.clock.ahead_s += idle_s - 60
            assert (await browser.see("/account")).status == 200
        console.clock.ahead_s += idle_s + 1
        assert (await browser.see("/account")).status == 303


async def test_a_session_ends_at_last_however_busy_it_is(console: Served, seeded: Seeded) -> None:
    async with console.staff_of(Role.OPERATOR) as ada:
        for _ in range(28):
            console.clock.ahead_s += 1500
            assert (await ada.see("/account")).status == 200
        console.clock.ahead_s += 1500
        assert (await ada.see("/account")).status == 303


async def test_a_revocation_and_a_new_password_end_the_sessions_at_once(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    by = By(COMMAND_LINE, console.clock())
    async with console.user_of(seeded.shop) as shop, console.staff_of(Role.OPERATOR) as ada:
        async with ledger.begin() as conn:
            user = await users.user(conn, f"user-{seeded.shop.id}")
            await logins.revoke_user(conn, by, user)
            member = await staff.staff(conn, "staff-operator")
            password_hash = await QUICK.hash("another password")
            await acts.set_password(conn, by, member, password_hash, forgets_code=False)
        assert (await shop.see("/account")).status == 303
        assert (await ada.see("/account")).status == 303


async def test_a_visitor_sets_another_password(console: Served, seeded: Seeded) -> None:
    async with console.user_of(seeded.shop) as shop:
        said = {"new": "a longer password", "again": "a longer password"}
        wrong = await shop.send("/account/password", present="not this one", **said)
        assert (wrong.status, "not your present password" in wrong.said) == (422, True)
        short = await shop.send("/account/password", present=PASSWORD, new="short", again="short")
        assert (short.status, "12 to 1024" in short.said) == (422, True)
        done = await shop.send("/account/password", present=PASSWORD, **said)
        assert done.location == "/login?done=password"
        await shop.log_in(f"user-{seeded.shop.id}", "a longer password")


async def test_logins_are_in_the_trail_and_what_was_typed_is_nowhere(
    console: Served, seeded: Seeded, ledger: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("segments", "aiohttp"):  # the ledger's own driver names what it is given
        caplog.set_level(logging.DEBUG, logger=name)
    await console.user("jane", seeded.shop)
    async with console.browser() as browser:
        await browser.send("/login", username="jane", password="typed-by-mistake")
        await browser.send("/login", username="typed-by-mistake", password="whatever it is")
        await browser.log_in("jane")
        await browser.send("/logout")
    async with ledger.connect() as conn:
        rows = [row async for row in entries(conn)]
    told = [(row["actor"], row["actor_name"], row["what"], row["result"]) for row in rows]
    assert told == [
        ("user", "jane", "login", "refused"),
        ("user", "jane", "login", "done"),
        ("user", "jane", "logout", "done"),
    ]
    assert "typed-by-mistake" not in str(rows) + caplog.text


async def test_a_name_is_either_a_users_or_staffs(console: Served, seeded: Seeded) -> None:
    await console.user("jane", seeded.shop)
    await console.member("ada", Role.OPERATOR)
    with pytest.raises(Exception, match="there is a user Jane already"):
        await console.member("Jane", Role.OPERATOR)
    with pytest.raises(Exception, match="there is staff Ada already"):
        await console.user("Ada", seeded.shop)


@pytest.mark.parametrize("after", ["//evil.example", "https://evil.example", "/\\evil.example"])
async def test_no_login_leads_to_another_site(console: Served, seeded: Seeded, after: str) -> None:
    await console.user("jane", seeded.shop)
    async with console.browser() as browser:
        login = {"username": "jane", "password": PASSWORD, "next": after}
        assert (await browser.send("/login", **login)).location == "/"
