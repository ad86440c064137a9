import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.callback_sender import (
    MAX_ATTEMPTS,
    PAUSES,
    RESULTS,
    CallbackMetrics,
    Callbacks,
    is_allowed,
    is_public,
)
from segments.ledger import callbacks
from segments.ledger.database.engine import open_ledger
from segments.settings import Settings

BODY = '{"transaction_id": "1"}'
HOST = "partner.example"


class Partner:
    """A partner's web server, which answers as it is told to."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.received: list[tuple[str, str, bytes]] = []
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        content_type = request.headers["Content-Type"]
        self.received.append((request.path, content_type, await request.read()))
        status = self.statuses.pop(0) if self.statuses else 200
        headers = {"Location": "/elsewhere"} if status == 302 else {}
        return web.Response(status=status, headers=headers)

    def url(self, host: str = HOST) -> str:
        return f"http://{host}:{self.port}/done"


class Names(AbstractResolver):
    """A name server that says whatever it is told to."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[Any]:
        return [
            {"hostname": host, "host": a, "port": port, "family": 2, "proto": 0, "flags": 0}
            for a in self.addresses
        ]

    async def close(self) -> None:
        """Nothing to release."""


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
async def ledger(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """On SQLite alone: the queries have tests of their own."""
    async with open_ledger(settings.ledger_dsn) as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def partner() -> AsyncIterator[Partner]:
    partner = Partner()
    app = web.Application()
    app.router.add_post("/{any}", partner.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert runner.addresses
    partner.port = runner.addresses[0][1]
    yield partner
    await runner.cleanup()


def sender(
    ledger: AsyncEngine,
    clock: Clock,
    *,
    hosts: tuple[str, ...] = (HOST,),
    metrics: CallbackMetrics | None = None,
) -> Callbacks:
    """A sender for which this machine is the public internet."""
    return Callbacks(
        ledger,
        hosts,
        clock,
        may_reach=lambda address: True,
        resolver=Names("127.0.0.1"),
        metrics=metrics,
    )


async def note(ledger: AsyncEngine, url: str, transaction_id: str | None = "1") -> None:
    async with ledger.begin() as conn:
        await callbacks.add(conn, transaction_id, url, BODY, now_s=1000)


async def waiting(ledger: AsyncEngine) -> list[callbacks.Callback]:
    async with ledger.connect() as conn:
        return await callbacks.due(conn, 1e12, 100)


async def test_status_is_posted_as_json_and_then_forgotten(
    ledger: AsyncEngine, partner: Partner, clock: Clock
) -> None:
    await note(ledger, partner.url())

    await sender(ledger, clock).turn()

    assert partner.received == [("/done", "application/json", BODY.encode())]
    assert await waiting(ledger) == []


async def test_what_was_not_answered_well_is_sent_again_later(
    ledger: AsyncEngine, partner: Partner, clock: Clock
) -> None:
    partner.statuses = [500, 404]
    await note(ledger, partner.url())
    callbacks = sender(ledger, clock)

    assert await callbacks.turn() == 1
    assert await callbacks.turn() == 0  # not at once
    clock.now_s += PAUSES.after(1)
    assert await callbacks.turn() == 1
    clock.now_s += PAUSES.after(2)
    assert await callbacks.turn() == 1

    assert len(partner.received) == 3
    assert await waiting(ledger) == []


async def test_clock_that_is_set_back_delays_no_status_and_repeats_none_at_once(
    ledger: AsyncEngine, partner: Partner, clock: Clock
) -> None:
    partner.statuses = [500]
    await note(ledger, partner.url())
    clock.now_s -= 3600
    callbacks = sender(ledger, clock)

    assert await callbacks.turn() == 1
    assert await callbacks.turn() == 0
    clock.now_s += PAUSES.after(1)
    assert await callbacks.turn() == 1

    assert await waiting(ledger) == []


async def test_status_of_a_machine_whose_clock_is_ahead_is_sent_by_one_process_alone(
    ledger: AsyncEngine, partner: Partner, clock: Clock
) -> None:
    await note(ledger, partner.url())
    async with ledger.begin() as conn:
        found = await callbacks.due(conn, 1000, 100)
        claimed = await callbacks.claim(conn, found, 1000, until_s=1060)
    clock.now_s -= 1

    assert len(claimed) == 1
    assert await sender(ledger, clock).turn() == 0
    assert partner.received == []


async def test_partner_that_is_away_gets_its_status_when_it_is_back(
    ledger: AsyncEngine, partner: Partner, clock: Clock
) -> None:
    await note(ledger, "http://partner.example:1/done")

    await sender(ledger, clock).turn()

    (callback,) = await waiting(ledger)
    assert callback.attempts == 1


async def test_attempts_come_to_an_end(ledger: AsyncEngine, partner: Partner, clock: Clock) -> None:
    partner.statuses = [500] * (MAX_ATTEMPTS + 1)
    await note(ledger, partner.url())
    callbacks = sender(ledger, clock)

    while await waiting(ledger):
        await callbacks.turn()
        clock.now_s += 6 * 3600

    assert len(partner.received) == MAX_ATTEMPTS


async def test_attempts_are_counted_by_what_came_of_them(
    ledger: AsyncEngine, partner: Partner, clock: Clock
) -> None:
    partner.statuses = [500]
    await note(ledger, partner.url())
    await note(ledger, "http://elsewhere.example/done", "2")
    registry = CollectorRegistry()
    callbacks = sender(ledger, clock, metrics=CallbackMetrics(registry))

    await callbacks.turn()
    clock.now_s += PAUSES.after(1)
    await callbacks.turn()

    assert {
        result: registry.get_sample_value("segments_callbacks_total", {"result": result})
        for result in RESULTS
    } == {"delivered": 1, "postponed": 1, "not_allowed": 1, "given_up": 0}


def test_each_pause_is_longer_than_the_last_up_to_six_hours() -> None:
    pauses = [PAUSES.after(attempts) for attempts in range(1, MAX_ATTEMPTS)]

    assert pauses[:3] == [5, 15, 45]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 6 * 3600


async def test_redirect_is_not_followed(
    ledger: AsyncEngine, partner: Partner, clock: Clock
) -> None:
    """
    An allowed host could otherwise hand us on to any other.
    """
    partner.statuses = [302]
    await note(ledger, partner.url())

    await sender(ledger, clock).turn()

    assert [path for path, _, _ in partner.received] == ["/done"]
    assert len(await waiting(ledger)) == 1


@pytest.mark.parametrize(
    "hosts", [pytest.param((), id="the default"), pytest.param(("b.example",), id="another")]
)
async def test_host_that_is_not_allowed_is_never_contacted(
    ledger: AsyncEngine,
    partner: Partner,
    clock: Clock,
    hosts: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await note(ledger, partner.url() + "?secret=s3cret")

    await sender(ledger, clock, hosts=hosts).turn()

    assert partner.received == []
    assert await waiting(ledger) == []
    assert "SEGMENTS_CALLBACK_HOSTS" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    "addresses",
    [
        pytest.param(("127.0.0.1",), id="private"),
        pytest.param(("8.8.8.8", "127.0.0.1"), id="one of several is private"),
    ],
)
async def test_name_with_a_private_address_is_never_contacted(
    ledger: AsyncEngine, partner: Partner, clock: Clock, addresses: tuple[str, ...]
) -> None:
    await note(ledger, partner.url())

    await Callbacks(ledger, (HOST,), clock, resolver=Names(*addresses)).turn()

    assert partner.received == []
    assert len(await waiting(ledger)) == 1  # names change; tried again, and checked again


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]"]
)
async def test_private_address_is_refused_in_any_notation(
    ledger: AsyncEngine, partner: Partner, clock: Clock, host: str
) -> None:
    """
    Allowed by the operator's mistake, and still not contacted.
    """
    await note(ledger, partner.url(host))

    await Callbacks(ledger, (host.strip("[]"),), clock).turn()

    assert partner.received == []
    assert await waiting(ledger) == []


async def test_later_status_of_a_transaction_replaces_one_that_was_not_sent(
    ledger: AsyncEngine,
) -> None:
    await note(ledger, "http://a.example/1")
    await note(ledger, "http://a.example/2")
    await note(ledger, "http://a.example/3", transaction_id=None)

    assert [c.url for c in await waiting(ledger)] == ["http://a.example/2", "http://a.example/3"]


async def test_sends_until_told_to_stop(
    ledger: AsyncEngine, partner: Partner, clock: Clock
) -> None:
    stopping = asyncio.Event()
    running = asyncio.create_task(sender(ledger, clock).run(stopping))
    await note(ledger, partner.url())

    async with asyncio.timeout(20):
        while not partner.received:  # noqa: ASYNC110 - the partner is on the other side of a socket
            await asyncio.sleep(0.01)
        stopping.set()
        await running

    assert len(partner.received) == 1


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param("a.example", True, id="named"),
        pytest.param("A.Example.", True, id="in another spelling"),
        pytest.param("x.a.example", False, id="below one that is named"),
        pytest.param("x.b.example", True, id="below a wildcard"),
        pytest.param("b.example", False, id="the wildcard's own"),
        pytest.param("evilb.example", False, id="ends like the wildcard's"),
        pytest.param("", False, id="none"),
    ],
)
def test_allowed_hosts_are_those_named(host: str, expected: bool) -> None:
    assert is_allowed(host, ("a.example", "*.B.example")) is expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        pytest.param("8.8.8.8", True, id="public"),
        pytest.param("2a00:1450:4001:80b::200e", True, id="public, version 6"),
        pytest.param("10.0.0.1", False, id="private 10"),
        pytest.param("172.16.0.1", False, id="private 172"),
        pytest.param("192.168.0.1", False, id="private 192"),
        pytest.param("169.254.169.254", False, id="cloud metadata"),
        pytest.param("100.64.0.1", False, id="carrier grade NAT"),
        pytest.param("127.0.0.1", False, id="loopback"),
        pytest.param("0.0.0.0", False, id="this host"),
        pytest.param("224.0.0.1", False, id="multicast"),
        pytest.param("255.255.255.255", False, id="broadcast"),
        pytest.param("::1", False, id="loopback, version 6"),
        pytest.param("::", False, id="this host, version 6"),
        pytest.param("fe80::1%eth0", False, id="link local"),
        pytest.param("fc00::1", False, id="unique local"),
        pytest.param("ff0e::1", False, id="multicast, version 6"),
        pytest.param("::ffff:10.0.0.1", False, id="private, mapped"),
        pytest.param("::ffff:8.8.8.8", True, id="public, mapped"),
        pytest.param("64:ff9b::a00:1", False, id="private, by NAT64"),
        pytest.param("2002:a00:1::", False, id="private, by 6to4"),
        pytest.param("2001:0:a00:1::", False, id="by Teredo"),
        pytest.param("2130706433", False, id="a number"),
        pytest.param("example.com", False, id="a name"),
    ],
)
def test_public_addresses_are_those_of_the_internet(address: str, expected: bool) -> None:
    assert is_public(address) is expected
