"""The link to the store by itself, against both engines."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis

from rtb.lookup.endpoint import lookup_of
from rtb.lookup.link import Found, LookupFault
from segments.model.identity import Id, id_of_email_hash
from segments.model.record import Change, Membership, Record, pack
from segments.store.meta import prepare
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from tests.edge.small_store import EXPECTED_IDS, MEMBER, STRANGER, caught_up, eventually, furnish
from tests.engines import Engine

MEMBER_RECORD = pack(Record((), (Membership(1), Membership(2))))
MEMBER_ID = id_of_email_hash(MEMBER)
STRANGER_ID = id_of_email_hash(STRANGER)


class Linked:
    """A lookup at work, and what it reported."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.round_trips: list[int] = []
        self.bugs: list[Exception] = []
        self.lookup = lookup_of(
            url,
            rng=Random(1),
            on_round_trip=self.round_trips.append,
            on_bug=self.bugs.append,
            **settings,
        )

    @property
    def is_up(self) -> bool:
        return self.lookup.fault is None

    def ask(self, *ids: Id) -> "asyncio.Future[Found | LookupFault]":
        answer: asyncio.Future[Found | LookupFault] = asyncio.get_running_loop().create_future()
        self.lookup.ask(ids, answer.set_result)
        return answer


@asynccontextmanager
async def linked(url: str, **settings: Any) -> AsyncIterator[Linked]:
    link = Linked(url, **settings)
    running = asyncio.create_task(link.lookup.run())
    try:
        await eventually(lambda: link.is_up)
        yield link
    finally:
        running.cancel()
        await asyncio.wait([running])


@pytest.fixture
async def furnished(redis_client: Redis) -> None:
    await furnish(redis_client)


@pytest.mark.usefixtures("furnished")
async def test_questions_of_one_turn_leave_in_one_write(engine: Engine) -> None:
    async with linked(engine.url) as link:
        answers = [link.ask(MEMBER_ID), link.ask(STRANGER_ID, MEMBER_ID), link.ask(STRANGER_ID)]
        found = [await answer for answer in answers]

    assert found == [[MEMBER_RECORD], [None, MEMBER_RECORD], [None]]
    assert link.round_trips == [4]


@pytest.mark.usefixtures("furnished")
async def test_every_id_finds_the_record_that_the_writer_wrote(
    engine: Engine, redis_client: Redis
) -> None:
    """
    Keys are made in two planes; where they differ, every lookup misses and nothing fails.
    """
    rng = Random(2)
    ids = [Id(rng.randbytes(16)) for _ in range(500)]
    meta = await prepare(redis_client, EXPECTED_IDS)
    await Writer(redis_client, meta).merge(ids, [Change(7, is_add=True)])
    await caught_up(redis_client)

    async with linked(engine.url) as link:
        found = await link.ask(*ids)

    assert list(found) == [pack(Record((), (Membership(7),)))] * len(ids)


@pytest.mark.usefixtures("furnished")
async def test_more_unanswered_questions_than_allowed_end_at_once(engine: Engine) -> None:
    async with linked(engine.url, max_waiting=2) as link:
        answers = [link.ask(MEMBER_ID) for _ in range(3)]
        found = [await answer for answer in answers]

    assert found == [[MEMBER_RECORD], [MEMBER_RECORD], LookupFault.BUSY]


@pytest.mark.usefixtures("furnished")
async def test_silent_server_is_not_asked_until_its_next_byte(engine: Engine) -> None:
    async with linked(engine.url, silent_after_s=0.01, probe_s=60) as link:
        engine.freeze()
        first = link.ask(MEMBER_ID)

        async def is_refused() -> bool:
            link.lookup.note_late()
            answer = link.ask(STRANGER_ID)
            return answer.done() and await answer is LookupFault.STALLED

        await eventually(is_refused)
        is_first_waiting = not first.done()
        engine.thaw()
        found = await first
        again = await link.ask(MEMBER_ID)

    assert is_first_waiting
    assert found == again == [MEMBER_RECORD]


@pytest.mark.usefixtures("furnished")
async def test_server_is_not_silent_before_the_longest_time_of_a_bid(engine: Engine) -> None:
    """
    A bid's own time may be shorter: others have still some left.
    """
    async with linked(engine.url, silent_after_s=60, probe_s=60) as link:
        engine.freeze()
        first = link.ask(MEMBER_ID)
        link.lookup.note_late()
        second = link.ask(MEMBER_ID)
        is_second_waiting = not second.done()
        engine.thaw()

        assert await first == await second == [MEMBER_RECORD]
        assert is_second_waiting


@pytest.mark.usefixtures("furnished")
async def test_server_that_owes_no_reply_is_not_silent(engine: Engine) -> None:
    async with linked(engine.url, silent_after_s=0, probe_s=60) as link:
        await link.ask(MEMBER_ID)
        link.lookup.note_late()

        assert await link.ask(MEMBER_ID) == [MEMBER_RECORD]


@pytest.mark.usefixtures("furnished")
async def test_callback_that_raises_is_reported_and_the_others_are_called(engine: Engine) -> None:
    def broken(_: object) -> None:
        raise RuntimeError

    async with linked(engine.url) as link:
        before = link.ask(MEMBER_ID)
        link.lookup.ask((STRANGER_ID,), broken)
        after = link.ask(MEMBER_ID)

        assert await before == await after == [MEMBER_RECORD]
        assert [type(bug) for bug in link.bugs] == [RuntimeError]
        assert link.is_up


@pytest.mark.usefixtures("furnished")
async def test_ended_lookup_ends_what_was_asked(engine: Engine) -> None:
    async with linked(engine.url) as link:
        engine.freeze()
        answer = link.ask(MEMBER_ID)
    engine.thaw()

    assert await answer is LookupFault.LOST
    assert await link.ask(MEMBER_ID) is LookupFault.LOST


@pytest.mark.parametrize(
    "url_of",
    [
        pytest.param(lambda port: f"redis://:secret@127.0.0.1:{port}/3", id="password"),
        pytest.param(lambda port: f"redis://default:secret@127.0.0.1:{port}/3", id="user"),
    ],
)
async def test_password_and_database_of_the_url_are_used(
    engine: Engine, redis_client: Redis, url_of: Callable[[object], str]
) -> None:
    url = url_of(engine.port)
    await redis_client.config_set("requirepass", "secret")
    try:
        async with connect(url) as redis:
            await furnish(redis)
        async with linked(url) as link:
            found = await link.ask(MEMBER_ID)
    finally:
        await redis_client.config_set("requirepass", "")

    assert found == [MEMBER_RECORD]


async def test_wrong_password_is_said_and_not_quoted(engine: Engine, redis_client: Redis) -> None:
    await redis_client.config_set("requirepass", "secret")
    link = Linked(f"redis://:open-sesame@127.0.0.1:{engine.port}/0")
    running = asyncio.create_task(link.lookup.run())
    try:
        await eventually(lambda: link.lookup.fault is LookupFault.WRONGPASS)
    finally:
        await redis_client.config_set("requirepass", "")
        running.cancel()
        await asyncio.wait([running])

    assert "WRONGPASS" in link.lookup.message
    assert "sesame" not in link.lookup.message
