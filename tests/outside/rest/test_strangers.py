"""
What strangers have done to login pages and servers, by public reports, tried on our REST doors.

Each test names the report by its URL.
"""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.rest import bodies
from segments.settings import Settings
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.ledger_seed import seed
from tests.rest import Rest
from tests.segments.doors.rest.test_logins import BOB, login_from, others, replicas

OWNER, GUESSER, VICTIM = "192.0.2.1", "198.51.100.7", "203.0.113.200"
_WITHIN_S = 20


@pytest.fixture
async def bob(settings: Settings, ledger: AsyncEngine, valkey: Engine) -> AsyncIterator[Rest]:
    """The doors behind a proxy, and Bob of the shop."""
    seeded = await seed(ledger)
    async with connect(valkey.url) as redis:
        await prepare(redis, settings.expected_ids)
        async with replicas(settings, ledger, redis) as (rest, _):
            await rest.user(BOB, seeded.shop)
            yield rest


async def guess(rest: Rest, address: str) -> int:
    return (await login_from(rest, address, "wrong, and long enough")).status


async def test_client_that_writes_addresses_before_the_proxys_gets_no_new_bucket(
    bob: Rest,
) -> None:
    """
    https://github.com/migadu/alps/pull/18: another first address for each try went round the limit.
    """
    guesses = [await guess(bob, f"{address}, {GUESSER}") for address in others(6)]

    assert guesses == [401] * 5 + [429]


async def test_client_that_writes_a_victims_address_locks_the_victim_out_of_nothing(
    bob: Rest,
) -> None:
    """
    The same report's other half.
    """
    for _ in range(6):
        await guess(bob, f"{VICTIM}, {GUESSER}")

    assert (await login_from(bob, VICTIM)).status == 200


@pytest.mark.parametrize("address", ["{}:{}", "[2001:db8::7]:{1}"])
async def test_port_behind_an_address_makes_no_other_client_of_it(bob: Rest, address: str) -> None:
    """
    https://github.com/Kludex/uvicorn/pull/2903: some balancers write the client's port, too.
    """
    guesses = [await guess(bob, address.format(GUESSER, 40_000 + n)) for n in range(6)]

    assert guesses == [401] * 5 + [429]


async def test_guesser_with_a_network_of_ipv6_has_the_tries_of_one(bob: Rest) -> None:
    """
    https://github.com/fail2ban/fail2ban/issues/3960
    """
    guesses = [await guess(bob, f"2001:db8:1:2:{n:x}::{n:x}") for n in range(1, 7)]

    assert guesses == [401] * 5 + [429]


async def test_ipv4_address_is_the_same_as_an_ipv6_socket_shows_it(bob: Rest) -> None:
    """
    https://github.com/fail2ban/fail2ban/issues/39: ::ffff:192.0.2.1 was another one, or none.
    """
    spelled = [GUESSER, f"::ffff:{GUESSER}"]
    guesses = [await guess(bob, spelled[n % 2]) for n in range(6)]
    other = await guess(bob, "::ffff:198.51.100.8")

    assert guesses == [401] * 5 + [429]
    assert other == 401


async def test_distributed_guesses_do_not_lock_the_owner_out(bob: Rest) -> None:
    """
    https://github.com/jazzband/django-axes/pull/6: a limit by name is a lock for everybody's use.
    """
    await login_from(bob, OWNER)
    guesses = [await guess(bob, address) for address in others(55)]

    assert 429 in guesses
    assert (await login_from(bob, OWNER)).status == 200


@pytest.mark.long
async def test_body_that_trickles_is_not_waited_for(bob: Rest) -> None:
    """
    https://github.com/xorbitsai/inference/pull/5213: each byte began the time-out anew.
    The fast ones are in test_bodies.py.
    """
    place = urlsplit(bob.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    answer = asyncio.create_task(reader.readline())
    async with asyncio.timeout(bodies.WITHIN_S + _WITHIN_S):
        while not answer.done():
            writer.write(b" ")
            await asyncio.wait([answer], timeout=0.5)
    writer.close()

    assert b" 408 " in answer.result()
