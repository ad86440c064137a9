"""What a guesser, a thief and an honest client meet at `POST /login`."""

import asyncio
import io
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_network
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.rest.logins import KNOWN_FOR_S
from segments.doors.rest.passwords import Passwords
from segments.ledger import accounts, users
from segments.ledger.signing_secrets import own_secret
from segments.ledger.tables import throttles
from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.ledger_seed import Seeded
from tests.rest import PASSWORD, QUICK, Answer, Rest, serving

JSON = {"Content-Type": "application/json"}
BOB = "bob@shop.example"


@pytest.fixture
async def bob(rest: Rest, seeded: Seeded) -> Rest:
    """The doors, and Bob of the shop, who has not logged in."""
    await rest.user(BOB, seeded.shop)
    return rest


async def can_use(rest: Rest, token: str) -> bool:
    headers = {"Authorization": f"Bearer {token}"}
    answer = await rest.ask("GET", "/audience/upload/1.000000", headers=headers)
    assert answer.status in (401, 404)
    return answer.status == 404


async def refresh(rest: Rest, refresh_token: str) -> Answer:
    return await rest.ask("POST", "/login/refresh", {"refreshToken": refresh_token})


async def test_login_answers_what_the_document_says(bob: Rest) -> None:
    answer = await bob.login(BOB)

    assert answer.status == 200
    assert answer.body.keys() == {"token", "username", "userId", "refreshToken"}
    assert answer.body["username"] == BOB
    assert (len(answer.body["userId"]), len(answer.body["refreshToken"])) == (32, 40)
    assert await can_use(bob, answer.body["token"])


async def test_password_that_was_drawn_opens_no_door_until_it_is_replaced(
    bob: Rest, seeded: Seeded
) -> None:
    ledger = bob.services.ledger
    hashed = await QUICK.hash(PASSWORD)
    async with ledger.begin() as conn:
        user = await users.user(conn, BOB)
        await users.set_password(conn, user, hashed, must_change=True)
    crm = {"userName": BOB, "password": PASSWORD}

    refused = [await bob.login(BOB) for _ in range(7)]
    refused.append(await bob.ask("POST", "/account/login", crm))
    wrong = await bob.login(BOB, "wrong password")
    async with ledger.begin() as conn:
        await users.set_password(conn, user, hashed)

    assert {answer.status for answer in refused} == {403}, "a right password is no guess"
    assert refused[0].body["errorCode"] == "PASSWORD_MUST_CHANGE"
    assert "log in to the console" in refused[0].body["detail"]
    assert wrong.status == 401
    assert (await bob.login(BOB)).status == 200


async def test_username_is_the_same_in_any_case(bob: Rest) -> None:
    assert (await bob.login(BOB.upper())).status == 200


@pytest.mark.parametrize(
    ("username", "password"),
    [
        pytest.param(BOB, "wrong password", id="wrong password"),
        pytest.param("nobody", PASSWORD, id="no such user"),
        pytest.param(BOB, "", id="empty password"),
    ],
)
async def test_wrong_name_and_wrong_password_are_answered_alike(
    bob: Rest, username: str, password: str
) -> None:
    answer = await bob.login(username, password)

    assert answer.status == 401
    assert answer.content_type == "application/problem+json"
    assert answer.body["detail"] == "no user of that name has that password"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_guessing_is_slowed_down_also_for_the_right_password(bob: Rest) -> None:
    guesses = [await bob.login(BOB, f"guess number {n}") for n in range(6)]
    right = await bob.login(BOB)
    bob.clock.ahead_s = int(right.headers["Retry-After"])
    later = await bob.login(BOB)

    assert [guess.status for guess in guesses] == [401] * 5 + [429]
    assert (right.status, later.status) == (429, 200)


async def test_logging_in_often_is_no_guessing(bob: Rest) -> None:
    answers = [await bob.login(BOB) for _ in range(8)]

    assert {answer.status for answer in answers} == {200}


async def test_token_expires_and_is_refreshed(bob: Rest) -> None:
    first = (await bob.login(BOB)).body

    bob.clock.ahead_s = 3600
    second = (await refresh(bob, first["refreshToken"])).body

    assert not await can_use(bob, first["token"])
    assert await can_use(bob, second["token"])
    assert second["userId"] == first["userId"]
    assert second["refreshToken"] != first["refreshToken"]


async def test_refresh_token_used_twice_ends_the_session_of_both(bob: Rest) -> None:
    """
    One of the two who have it stole it, and nobody can tell which.
    """
    first = (await bob.login(BOB)).body
    second = (await refresh(bob, first["refreshToken"])).body

    again = await refresh(bob, first["refreshToken"])

    assert again.status == 401
    assert not await can_use(bob, second["token"])
    assert (await refresh(bob, second["refreshToken"])).status == 401


async def test_refresh_token_expires(bob: Rest) -> None:
    first = (await bob.login(BOB)).body

    bob.clock.ahead_s = 30 * 86_400

    assert (await refresh(bob, first["refreshToken"])).status == 401


@pytest.mark.parametrize("refresh_token", ["", "x", "é" * 40, "0" * 40, "0" * 256])
async def test_made_up_refresh_token_is_refused(bob: Rest, refresh_token: str) -> None:
    assert (await refresh(bob, refresh_token)).status == 401


async def test_revoked_login_is_out_at_once_and_others_stay(bob: Rest) -> None:
    first, second = (await bob.login(BOB)).body, (await bob.login(BOB)).body

    revoked = await bob.ask("POST", "/login/revoke", {"refreshToken": first["refreshToken"]})

    assert (revoked.status, revoked.raw) == (204, b"")
    assert not await can_use(bob, first["token"])
    assert (await refresh(bob, first["refreshToken"])).status == 401
    assert await can_use(bob, second["token"])


async def test_revoked_user_is_out_at_once(bob: Rest) -> None:
    token = (await bob.login(BOB)).body["token"]

    async with bob.services.ledger.begin() as conn:
        await users.revoke(conn, await users.user(conn, BOB))

    assert not await can_use(bob, token)
    assert (await bob.login(BOB)).status == 401


@pytest.mark.parametrize("switched_off", ["sub", "agency"])
async def test_users_of_an_account_that_is_switched_off_are_out(
    rest: Rest, seeded: Seeded, switched_off: str
) -> None:
    await rest.user("sue", seeded.sub)
    token = (await rest.login("sue")).body["token"]

    async with rest.services.ledger.begin() as conn:
        await accounts.set_account_active(conn, getattr(seeded, switched_off), False)

    assert not await can_use(rest, token)
    assert (await rest.login("sue")).status == 401


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(None, id="none"),
        pytest.param("Bearer", id="no token"),
        pytest.param("Bearer a.b.c", id="no JWT"),
        pytest.param("Bearer something-else", id="of no known kind"),
        pytest.param("Basic Ym9iOnNlY3JldA==", id="another scheme"),
    ],
)
async def test_without_a_valid_token_nothing_is_done(bob: Rest, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}

    answer = await bob.ask("GET", "/audience/upload/1.000000", headers=headers)

    assert answer.status == 401


@pytest.mark.parametrize(
    ("header", "changed"),
    [
        pytest.param({"alg": "HS512"}, {}, id="another algorithm"),
        pytest.param({"alg": "HS256"}, {"iss": "someone"}, id="another issuer"),
        pytest.param({"alg": "HS256"}, {"sub": "0" * 32}, id="another user"),
        pytest.param({"alg": "HS256"}, {"exp": "never"}, id="no time"),
        pytest.param({"alg": "HS256"}, {"sid": "1 or 1"}, id="no session"),
        pytest.param({"alg": "HS256"}, {"sid": 2**70}, id="no session of any ledger"),
        pytest.param({"alg": "HS256"}, {"sid": None}, id="session null"),
    ],
)
async def test_token_that_is_not_as_we_make_it_is_refused(
    bob: Rest, header: dict[str, str], changed: dict[str, object]
) -> None:
    """
    Even signed with our own key, which nobody else has.
    """
    token = (await bob.login(BOB)).body["token"]
    claims = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))
    async with bob.services.ledger.begin() as conn:
        secret = await own_secret(conn, "access tokens", now_s=0)

    forged = jwt.encode(
        header, {**claims, **changed}, OctKey.import_key(secret), algorithms=[header["alg"]]
    )

    assert not await can_use(bob, forged)


async def test_unsigned_token_is_refused(bob: Rest) -> None:
    token = (await bob.login(BOB)).body["token"]
    unsigned = urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")

    assert not await can_use(bob, f"{unsigned}.{token.split('.')[1]}.")


async def test_token_of_another_ledger_is_refused(bob: Rest) -> None:
    token = (await bob.login(BOB)).body["token"]
    _, claims, _ = token.split(".")
    other = jwt.encode(
        {"alg": "HS256"},
        json.loads(urlsafe_b64decode(claims + "==")),
        OctKey.import_key(b"x" * 32),
    )

    assert not await can_use(bob, other)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        pytest.param({"data": b"{"}, 400, id="no JSON"),
        pytest.param({"data": b'{"username": "\\ud800", "password": "x"}'}, 400, id="surrogate"),
        pytest.param({"data": b'{"username": "a\\u0000b", "password": "x"}'}, 400, id="NUL"),
        pytest.param({"data": b"\xff"}, 400, id="no text"),
        pytest.param({"data": b"[" * 16_000}, 400, id="deep"),
        pytest.param({"json": {"username": "bob"}}, 400, id="member missing"),
        pytest.param({"json": {"username": "b", "password": "x" * 5000}}, 400, id="long password"),
        pytest.param({"data": {"username": "bob"}}, 415, id="a form"),
        pytest.param(
            {"data": b"{}", "headers": JSON | {"Content-Encoding": "gzip"}}, 415, id="compressed"
        ),
    ],
)
async def test_body_that_is_no_login_is_refused_and_not_quoted(
    bob: Rest, options: dict[str, Any], status: int
) -> None:
    is_form: bool = isinstance(options.get("data"), dict)

    options.setdefault("headers", {} if is_form else JSON)

    answer = await bob.ask("POST", "/login", **options)

    assert answer.status == status
    assert answer.content_type == "application/problem+json"
    assert b"bob" not in answer.raw
    assert b"xxxx" not in answer.raw


async def test_body_that_is_too_large_is_refused(bob: Rest) -> None:
    answer = await bob.ask("POST", "/login", data=io.BytesIO(b" " * (2 << 20)), headers=JSON)

    assert answer.status == 413
    assert answer.content_type == "application/problem+json"


# ---------------------------------------------------------------- many addresses, many replicas


@asynccontextmanager
async def replicas(
    settings: Settings, ledger: AsyncEngine, redis: Redis, *, passwords: Passwords = QUICK
) -> AsyncIterator[list[Rest]]:
    """Give two processes' doors over one ledger, behind a proxy that says who asks."""
    behind = settings.model_copy(update={"trusted_proxies": (ip_network("127.0.0.0/8"),)})
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(serving(behind, ledger, redis, passwords=passwords))
            for _ in range(2)
        ]


@pytest.fixture
async def two(
    settings: Settings, ledger: AsyncEngine, valkey: Engine, seeded: Seeded
) -> AsyncIterator[list[Rest]]:
    """Two processes' doors, and Bob of the shop, who has not logged in."""
    async with connect(valkey.url) as redis:
        await prepare(redis, settings.expected_ids)
        async with replicas(settings, ledger, redis) as both:
            await both[0].user(BOB, seeded.shop)
            yield both


async def login_from(
    rest: Rest, address: str, password: str = PASSWORD, username: str = BOB
) -> Answer:
    said = {"username": username, "password": password}
    return await rest.ask("POST", "/login", said, headers={"X-Forwarded-For": address})


HOME, AWAY = "192.0.2.1", "198.51.100.1"


def others(count: int) -> list[str]:
    return [f"203.0.113.{n}" for n in range(1, count + 1)]


async def test_failures_are_counted_for_all_replicas_together(two: list[Rest]) -> None:
    guesses = [await login_from(two[n % 2], HOME, f"guess number {n}") for n in range(6)]
    right = [await login_from(rest, HOME) for rest in two]
    elsewhere = await login_from(two[0], AWAY)

    assert [guess.status for guess in guesses] == [401] * 5 + [429]
    assert [answer.status for answer in right] == [429, 429]
    assert elsewhere.status == 200


async def test_right_password_forgives_at_all_replicas(two: list[Rest]) -> None:
    for n in range(3):
        guesses = [await login_from(two[0], HOME, f"guess number {n}") for n in range(4)]
        assert [guess.status for guess in guesses] == [401] * 4
        assert (await login_from(two[1], HOME)).status == 200


async def test_ipv6_guesser_is_counted_by_network(two: list[Rest]) -> None:
    guesses = [await login_from(two[0], f"2001:db8::{n}", "wrong password") for n in range(1, 7)]

    assert [guess.status for guess in guesses] == [401] * 5 + [429]


async def test_wrong_passwords_from_many_addresses_do_not_lock_a_user_out(
    two: list[Rest],
) -> None:
    await login_from(two[0], HOME)

    guesses = [
        (await login_from(two[n % 2], address, "wrong password")).status
        for n, address in enumerate(others(60))
    ]
    known, unknown = await login_from(two[1], HOME), await login_from(two[1], AWAY)

    assert guesses == [401] * 50 + [429] * 10
    assert (known.status, unknown.status) == (200, 429)


async def test_guesser_at_a_known_address_is_slowed_down_too(two: list[Rest]) -> None:
    await login_from(two[0], HOME)

    guesses = [await login_from(two[0], HOME, f"guess number {n}") for n in range(6)]

    assert [guess.status for guess in guesses] == [401] * 5 + [429]


async def test_address_is_known_for_ninety_days(two: list[Rest]) -> None:
    await login_from(two[0], HOME)
    two[0].clock.ahead_s += KNOWN_FOR_S + 1
    for address in others(50):
        await login_from(two[0], address, "wrong password")

    assert (await login_from(two[0], HOME)).status == 429


async def test_clock_that_is_set_back_locks_nobody_out_for_long(two: list[Rest]) -> None:
    for n in range(5):
        await login_from(two[0], HOME, f"guess number {n}")
    for rest in two:
        rest.clock.ahead_s -= 3600

    waited_s = 0
    while (answer := await login_from(two[1], HOME)).status == 429:
        waited_s += int(answer.headers["Retry-After"])
        two[1].clock.ahead_s += int(answer.headers["Retry-After"])

    assert answer.status == 200
    assert 30 <= waited_s <= 30 + 3600 / 50


async def test_what_was_counted_is_forgotten_in_time(two: list[Rest]) -> None:
    for address in others(20):
        await login_from(two[0], address, "wrong password")
    two[0].clock.ahead_s += 2 * 3600
    await login_from(two[0], AWAY, "wrong password")

    async with two[0].services.ledger.connect() as conn:
        assert len((await conn.execute(select(throttles.c.kind))).all()) == 3


async def test_right_password_does_not_wait_behind_wrong_ones(
    settings: Settings, ledger: AsyncEngine, valkey: Engine, seeded: Seeded
) -> None:
    """
    With real hashes: 60 guesses at once, of 30 addresses and two names.
    """
    passwords = Passwords()
    async with connect(valkey.url) as redis:
        await prepare(redis, settings.expected_ids)
        async with replicas(settings, ledger, redis, passwords=passwords) as (rest, _):
            password_hash = await passwords.hash(PASSWORD)
            async with ledger.begin() as conn:
                await users.add_user(conn, BOB, seeded.shop, password_hash, now_s=rest.clock())
            await login_from(rest, HOME)
            names = (BOB, "nobody")
            guesses = [
                asyncio.create_task(login_from(rest, address, "wrong password", names[n % 2]))
                for n in range(2)
                for address in others(30)
            ]
            done, _ = await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED)
            began_s = time.monotonic()
            known = await login_from(rest, HOME)
            took_s = time.monotonic() - began_s
            answers = [await guess for guess in guesses]

    turned_away = [each for each in answers if each.status == 429]
    assert done
    assert known.status == 200
    assert took_s < 10
    assert {each.status for each in answers} == {401, 429}
    assert len(turned_away) > 10
    assert all(int(each.headers["Retry-After"]) > 0 for each in turned_away)
