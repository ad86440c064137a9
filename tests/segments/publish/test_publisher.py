"""What is published, when, and when nothing is."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from segments.ledger import accounts, audiences, recipients
from segments.ledger.database.engine import open_ledger
from segments.model.identity import IdentifierKind
from segments.model.record import Change, OptOutAction
from segments.projection.catalog import publish_catalog
from segments.projection.opt_outs import record_opt_out
from segments.publish.keep_publishing import KeepPublishing, PublishMetrics
from segments.publish.options import PublishOptions
from segments.store.published.latest import Latest, read
from segments.store.reader import read_meta
from segments.store.writer import Writer
from tests.engines import Engine
from tests.segments.follow.conftest import TRUSTED, Link
from tests.segments.ingest.deliveries import ids_of
from tests.segments.upkeep.histories import HASHES


def latest_of(link: Link) -> Latest:
    return read((link.directory / "LATEST").read_bytes(), TRUSTED)


async def say_no(link: Link, n: int) -> None:
    ids = [(IdentifierKind.EMAIL, id_) for id_ in ids_of(HASHES[n : n + 1])]
    history = link.history
    await record_opt_out(history.ledger, history.redis, OptOutAction.RESTRICT, ids, None)


async def test_first_no_is_published_at_once_and_the_next_in_time(link: Link) -> None:
    publisher = link.publisher(options=PublishOptions(opt_outs_every_s=5, changes_every_s=1000))
    await publisher.step()
    link.clock.ahead_s += 6

    await say_no(link, 0)
    await publisher.step()
    assert latest_of(link).opt_outs == 1
    await say_no(link, 1)
    await publisher.step()
    assert latest_of(link).opt_outs == 1

    link.clock.ahead_s += 5
    await publisher.step()
    assert latest_of(link).opt_outs == 2


async def test_no_waits_for_no_flood_of_changes(link: Link) -> None:
    """An increment takes a few buckets, and every new opt-out."""
    few = PublishOptions(opt_outs_every_s=0, changes_every_s=0, buckets_at_once=2)
    await link.history.happen_all(files=1)
    publisher, follower = link.publisher(options=few), link.follower()
    await publisher.step()
    await link.history.happen_all(files=1)
    await publisher.step()
    assert len(publisher._owed) > 10

    await say_no(link, 3)
    await publisher.step()

    await follower.look()
    meta = await read_meta(link.pod)
    assert meta.opt_outs == latest_of(link).opt_outs
    assert len(publisher._owed) > 5


async def test_full_is_made_in_time_though_nothing_changes(link: Link) -> None:
    """Some buckets delete their files after 14 days."""
    publisher = link.publisher(options=PublishOptions(full_every_s=7 * 86_400))
    await publisher.step()
    before = latest_of(link).full
    link.clock.ahead_s += 7 * 86_400 + 1

    await publisher.step()
    await publisher.full_made()
    await publisher.step()

    assert latest_of(link).full.number > before.number
    await link.follower().look()
    assert await link.followed() == await link.history.dump()


async def test_everything_is_published_only_on_demand(link: Link, redis: Redis) -> None:
    history = link.history
    async with history.ledger.begin() as conn:
        made = await audiences.find_or_create_audience(
            conn, history.partner, history.partner, "1", "1", now_s=1.0
        )
        await recipients.add_recipient(conn, "sees nothing".replace(" ", "-"), now_s=1.0)
    await publish_catalog(history.ledger, redis)
    await Writer(redis, await read_meta(redis)).merge(ids_of(HASHES), [Change(made.id, True)])

    await link.publisher(["sees-nothing"]).step()
    await link.follower().look()
    assert not await link.followed()

    await link.publisher(None).step()
    await link.pod.flushall()
    await link.follower().look()
    assert await link.followed() == await history.dump()


async def test_revoked_grant_hides_the_audience_before_its_members_are_gone(link: Link) -> None:
    history = link.history
    async with history.ledger.begin() as conn:
        bidder = await recipients.add_recipient(conn, "bidder", now_s=1.0)
        await recipients.grant(conn, bidder, history.partner)
    await history.happen_all(files=2)
    few = PublishOptions(0, 0, buckets_at_once=1)
    publisher, follower = link.publisher(["bidder"], few), link.follower()
    await publisher.step()
    async with history.ledger.begin() as conn:
        bidder = await recipients.recipient(conn, "bidder")
        await recipients.revoke(
            conn, bidder, await accounts.partner(conn, history.partner.public_id)
        )

    await publisher.step()
    await follower.look()

    from segments.store.reader import read_catalog

    assert publisher._owed
    assert not (await read_catalog(link.pod)).audiences


# A loop, through outages.


class Loop:
    """A publisher's loop, and what it says."""

    def __init__(self, publisher: Any) -> None:
        from prometheus_client import CollectorRegistry

        self.registry = CollectorRegistry()
        self.keeping = KeepPublishing(publisher, PublishMetrics(self.registry))

    def value(self, name: str, **labels: str) -> float:
        found = self.registry.get_sample_value(name, labels)
        assert found is not None
        return found


@pytest.mark.parametrize("part", ["store", "ledger", "place"])
async def test_nothing_is_said_while_a_part_is_away_and_that_is(
    link: Link, valkey: Engine, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = link.publisher()
    loop = Loop(publisher)
    assert not await loop.keeping._step()
    before = latest_of(link)
    link.clock.ahead_s += 26
    aside = link.tmp_path / "aside"
    ledger_file = link.history.settings.data_dir / "ledger.db"

    if part == "store":
        valkey.kill()
    elif part == "ledger":
        async with open_ledger(link.history.settings.ledger_dsn):
            await link.history.ledger.dispose()
        ledger_file.rename(aside)
        ledger_file.mkdir()
    else:
        link.directory.rename(aside)
        link.directory.write_bytes(b"")
    why = await loop.keeping._step()

    assert why
    assert loop.value("segments_publish_failures_total", part=part) == 1
    at = aside if part == "place" else link.directory
    assert read((at / "LATEST").read_bytes(), TRUSTED) == before

    if part == "store":
        valkey.start()
    elif part == "ledger":
        ledger_file.rmdir()
        aside.rename(ledger_file)
    else:
        link.directory.unlink()
        aside.rename(link.directory)
    assert not await loop.keeping._step()
    assert latest_of(link).made_at_s >= before.made_at_s + 26


async def test_stop_does_not_wait_for_a_full(
    link: Link, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from segments.publish.buckets import BucketReader

    publisher = link.publisher()
    loop, stopping, is_reading = Loop(publisher), asyncio.Event(), asyncio.Event()

    async def held(*_: object) -> None:
        is_reading.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(BucketReader, "_held", held)
    running = asyncio.create_task(loop.keeping.run(stopping))
    await is_reading.wait()
    stopping.set()

    async with asyncio.timeout(10):
        await running
    assert not list(Path(link.tmp_path / "publish-1").iterdir())
    assert not caplog.records


async def test_metrics_say_what_is_published(link: Link) -> None:
    publisher = link.publisher()
    loop = Loop(publisher)
    await say_no(link, 0)
    await loop.keeping._step()
    loop.keeping._metrics.show(publisher)
    latest = latest_of(link)

    assert loop.value("segments_published_timestamp_seconds") == latest.made_at_s
    assert loop.value("segments_published_number") == latest.number
    assert loop.value("segments_published_opt_outs") == 1
    assert loop.value("segments_published_full_timestamp_seconds") == latest.full.number / 1000
    assert loop.value("segments_publish_failures_total", part="place") == 0
