"""A publisher goes on where another ended, if that is safe; else it begins with a full."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from segments.files.published_place import PlaceAway, PublishedPlace
from segments.ledger import accounts, audiences, recipients
from segments.model.account import AccountKind
from segments.model.record import Change
from segments.publish.options import PublishOptions
from segments.runtime.follow_status import FollowEvent
from segments.store.changed_buckets import OtherPublisher
from segments.store.published.latest import Latest, read, sign
from segments.store.reader import read_meta
from segments.store.writer import Writer
from tests.engines import Engine
from tests.segments.follow.conftest import KEY, TRUSTED, Link
from tests.segments.ingest.deliveries import ids_of
from tests.segments.upkeep.histories import HASHES


def latest_of(link: Link) -> Latest:
    return read((link.directory / "LATEST").read_bytes(), TRUSTED)


@pytest.fixture(autouse=True)
async def audience(link: Link) -> None:
    """The partner's, number 1."""
    partner = link.history.partner
    async with link.history.ledger.begin() as conn:
        made = await audiences.find_or_create_audience(conn, partner, partner, "1", "1", now_s=1.0)
    assert made.id == 1


async def write(link: Link, at: int = 0) -> None:
    """Change a few records."""
    writer = Writer(link.history.redis, await read_meta(link.history.redis))
    await writer.merge(ids_of(HASHES[at : at + 20]), [Change(1, is_add=True)])


async def followed_by_a_new(link: Link) -> None:
    """Assert that a new follower has what the store has."""
    await link.pod.flushall()
    await link.follower().look()
    assert await link.followed() == await link.history.dump()


async def test_successor_goes_on_with_an_increment(link: Link) -> None:
    first, follower = link.publisher(), link.follower()
    await first.step()
    await write(link)
    await first.step()
    await follower.look()
    await write(link, 50)  # while nobody publishes

    before = latest_of(link)
    await link.publisher().step()
    await follower.look()

    after = latest_of(link)
    assert after.full == before.full
    assert after.increments[:-1] == before.increments
    assert follower.counts[FollowEvent.FULL] == 1
    assert await link.followed() == await link.history.dump()


async def test_increment_that_a_publisher_has_taken_and_not_published_is_published(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = link.publisher()
    await first.step()
    await write(link)
    with monkeypatch.context() as patch:
        patch.setattr(PublishedPlace, "put", away)
        with pytest.raises(PlaceAway):
            await first.step()

    await link.publisher().step()

    assert len(latest_of(link).increments) == 1
    await followed_by_a_new(link)


async def away(*_: Any) -> None:
    raise PlaceAway("no answer in time")


async def restarted(link: Link, valkey: Engine) -> None:
    valkey.kill()
    valkey.start()


async def marks_lost(link: Link, _: Engine) -> None:
    await link.history.redis.delete("seg:1:changes")


async def file_deleted(link: Link, _: Engine) -> None:
    (link.directory / latest_of(link).full.name).unlink()


async def latest_deleted(link: Link, _: Engine) -> None:
    (link.directory / "LATEST").unlink()


async def older_latest(link: Link, _: Engine) -> None:
    latest = latest_of(link)
    (link.directory / "LATEST").write_bytes(sign(replace(latest, increments=()), KEY))


async def other_version(link: Link, _: Engine) -> None:
    redis = link.history.redis
    name = f"{latest_of(link).state}"
    await redis.hset("seg:1:changes:test:notes", name, b"\x81\xa4form\x63")


@pytest.mark.parametrize(
    "event",
    [
        restarted,
        marks_lost,
        file_deleted,
        latest_deleted,
        older_latest,
        other_version,
    ],
)
async def test_successor_begins_with_a_full(
    link: Link, valkey: Engine, event: Callable[[Link, Engine], Any]
) -> None:
    first = link.publisher()
    await first.step()
    await write(link)
    await first.step()
    before = latest_of(link).full.number

    await event(link, valkey)
    await link.publisher().step()

    after = latest_of(link)
    assert (after.full.number > before, after.increments) == (True, ())
    await followed_by_a_new(link)


async def test_other_recipients_begin_with_a_full(link: Link) -> None:
    async with link.history.ledger.begin() as conn:
        for name in ("a", "b"):
            await recipients.add_recipient(conn, name, now_s=1.0)
    await link.publisher(["a"]).step()
    before = latest_of(link).full.number

    await link.publisher(["b"]).step()

    assert latest_of(link).full.number > before


async def test_revocation_amid_two_publishers_leaves_with_the_first_increment(link: Link) -> None:
    history = link.history
    async with history.ledger.begin() as conn:
        other = await accounts.add_account(conn, AccountKind.ADVERTISER, "o", "o", now_s=1.0)
        bidder = await recipients.add_recipient(conn, "bidder", now_s=1.0)
        for partner in (history.partner, other):
            await recipients.grant(conn, bidder, partner)
            bidder = await recipients.recipient(conn, "bidder")
    await write(link)
    follower = link.follower()
    await link.publisher(["bidder"]).step()
    await follower.look()
    assert any(await link.followed())
    async with history.ledger.begin() as conn:
        await recipients.revoke(conn, bidder, history.partner)

    last = link.publisher(["bidder"])
    await last.step()
    await follower.look()

    assert follower.counts[FollowEvent.FULL] == 1
    assert not any(fields for fields in (await link.followed()).values())
    await last.full_made()
    await last.step()
    assert latest_of(link).full.number >= last._kept_from


async def test_round_of_all_buckets_that_was_broken_off_begins_with_a_full(link: Link) -> None:
    """The rest of the round is marked nowhere."""
    history = link.history
    async with history.ledger.begin() as conn:
        bidder = await recipients.add_recipient(conn, "bidder", now_s=1.0)
    await write(link)
    few = PublishOptions(0, 0, buckets_at_once=5)
    first = link.publisher(["bidder"], few)
    await first.step()
    async with history.ledger.begin() as conn:
        await recipients.grant(conn, bidder, history.partner)
    await first.step()
    assert first._owed

    await link.publisher(["bidder"], few).step()

    assert latest_of(link).increments == ()
    await followed_by_a_new(link)


async def test_beginning_that_fails_is_begun_again(
    link: Link, valkey: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An increment behind the state of before would lack all changes since."""
    publisher, follower = link.publisher(), link.follower()
    await publisher.step()
    await follower.look()
    await write(link)
    with monkeypatch.context() as patch:
        patch.setattr(PublishedPlace, "put", away)
        with pytest.raises(PlaceAway):
            await publisher.step()
        valkey.restart()
        with pytest.raises(PlaceAway):
            await publisher.step()

    await publisher.step()
    await follower.look()

    assert await link.followed() == await link.history.dump()


async def test_publisher_that_another_has_followed_publishes_nothing_more(link: Link) -> None:
    first = link.publisher()
    await first.step()
    second = link.publisher()
    await second.step()
    await write(link)
    before = latest_of(link)

    for _ in range(2):
        with pytest.raises(OtherPublisher, match="one of the two"):
            await first.step()
    assert latest_of(link) == before

    await second.step()
    await followed_by_a_new(link)


async def test_publisher_that_another_overtakes_amid_its_increment_takes_nothing_from_it(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = link.publisher(), link.publisher()
    await first.step()
    await write(link)
    real = PublishedPlace.put

    async def put(place: PublishedPlace, name: str, content: bytes | Path) -> None:
        await real(place, name, content)
        if name == "LATEST":
            monkeypatch.setattr(PublishedPlace, "put", real)
            # As if it had read LATEST a moment before.
            (link.directory / "LATEST").write_bytes(before)
            await second.step()

    before = (link.directory / "LATEST").read_bytes()
    monkeypatch.setattr(PublishedPlace, "put", put)
    with pytest.raises(OtherPublisher):
        await first.step()

    await followed_by_a_new(link)


async def test_full_that_others_have_deleted_is_made_again(link: Link) -> None:
    publisher = link.publisher()
    await publisher.step()
    before = latest_of(link).full
    (link.directory / before.name).unlink()
    link.clock.ahead_s += 31

    for _ in range(2):
        await publisher.step()
    await publisher.full_made()
    await publisher.step()

    assert latest_of(link).full.number > before.number
    await followed_by_a_new(link)


async def test_numbers_rise_though_the_clock_was_set_back(link: Link, redis: Redis) -> None:
    link.clock.ahead_s = 5000
    await link.publisher().step()
    before = latest_of(link)
    link.clock.ahead_s = 0
    await write(link)

    await link.publisher().step()

    assert latest_of(link).state > before.number
