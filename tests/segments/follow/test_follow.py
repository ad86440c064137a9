"""A store that follows is, byte for byte, what `rebuild` makes of what the ledger says."""

from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace
from redis.asyncio import Redis

from segments.files.published_place import NotThere, PlaceAway
from segments.ledger import accounts, audiences, recipients
from segments.model.account import AccountKind
from segments.model.identity import IdentifierKind
from segments.model.record import (
    EVERYONE,
    Change,
    CorruptRecord,
    Membership,
    OptOut,
    OptOutAction,
    Record,
    unpack,
)
from segments.projection.catalog import catch_up, publish_catalog
from segments.projection.opt_outs import record_opt_out
from segments.publish.buckets import BucketReader
from segments.publish.options import PublishOptions
from segments.runtime.follow_status import FRESH_FOR_S, FollowEvent
from segments.store import keys
from segments.store.changed_buckets import ChangedBuckets
from segments.store.meta import prepare
from segments.store.published.form import DamagedFile, NewerFile
from segments.store.published.latest import Keys, Latest, NotSigned, public_text, read, sign
from segments.store.reader import StoreUnusable, read_catalog, read_meta, read_records
from segments.store.writer import Writer
from segments.upkeep.rebuild import rebuild
from tests.engines import Engine
from tests.segments.follow.conftest import KEY, MAX_AGE_S, TRUSTED, Dump, Link
from tests.segments.ingest.deliveries import ids_of
from tests.segments.upkeep.histories import HASHES, History


async def rebuilt(history: History) -> Dump:
    """Make the published store anew, and return what it holds."""
    await rebuild(history.tools, history.settings.expected_ids, settle_s=0)
    return await history.dump()


async def same_catalog(link: Link) -> bool:
    source, pod = await read_catalog(link.history.redis), await read_catalog(link.pod)
    return all(
        sorted(map(str, a)) == sorted(map(str, b)) for a, b in zip(source[1:], pod[1:], strict=True)
    )


def latest_of(link: Link) -> Latest:
    return read((link.directory / "LATEST").read_bytes(), TRUSTED)


@pytest.mark.parametrize("seed", range(4))
async def test_followed_store_is_what_rebuild_makes_byte_for_byte(link: Link, seed: int) -> None:
    link.history.rng = Random(seed)
    chance = Random(seed)
    publisher, follower = link.publisher(), link.follower()
    await publisher.step()
    for _ in range(4):
        await link.history.happen_all(files=1)
        if chance.random() < 0.8:
            await publisher.step()
        if chance.random() < 0.6:
            await follower.look()
    for _ in range(3):
        await link.history.say_no()
    await publisher.step()
    await follower.look()

    followed = await link.followed()

    assert await same_catalog(link)
    assert followed == await rebuilt(link.history)
    assert (await read_meta(link.pod)).opt_outs == (await read_meta(link.history.redis)).opt_outs
    assert follower.may_be_believed


async def test_follower_that_comes_late_has_the_same(link: Link) -> None:
    publisher, early = link.publisher(), link.follower()
    for _ in range(3):
        await link.history.happen_all(files=1)
        await publisher.step()
        await early.look()
    before = await link.followed()
    assert early.counts[FollowEvent.FULL] == 1

    await link.pod.flushall()
    late = link.follower()
    await late.look()

    assert await link.followed() == before == await link.history.dump()
    assert late.state == early.state


async def test_full_that_is_due_does_not_make_a_follower_begin_anew(link: Link) -> None:
    publisher = link.publisher(options=PublishOptions(0, 0, full_every_s=100))
    follower = link.follower()
    await publisher.step()
    await follower.look()
    await link.history.happen_all(files=2)
    await publisher.step()
    link.clock.ahead_s += 101
    await publisher.step()
    await publisher.full_made()
    first = latest_of(link).full
    await publisher.step()

    await follower.look()

    assert latest_of(link).full.number > first.number
    assert follower.counts == {"full": 1, "increment": 1}
    assert await link.followed() == await link.history.dump()
    await link.pod.flushall()
    anew = link.follower()
    await anew.look()
    assert await link.followed() == await link.history.dump()


async def test_opt_out_that_the_store_has_not_got_is_published_all_the_same(
    link: Link, redis: Redis
) -> None:
    await link.history.happen_all(files=2)
    publisher, follower = link.publisher(), link.follower()
    await publisher.step()
    await follower.look()
    meta = await read_meta(link.pod)
    [person, other] = ids_of(HASHES[:2])
    # Recorded, while the store takes nothing.
    async with link.history.ledger.begin() as conn:
        from segments.ledger.privacy import opt_outs

        [said] = await opt_outs.record(
            conn, OptOutAction.ERASURE, [[(IdentifierKind.EMAIL, person)]], now_s=1.0
        )
    assert (await read_meta(redis)).opt_outs < said.seq

    await publisher.step()
    await follower.look()

    [followed] = await read_records(link.pod, meta, [person])
    assert followed == Record((OptOut(EVERYONE, OptOutAction.ERASURE),))
    assert (await read_meta(link.pod)).opt_outs == said.seq
    # ... and its bucket does not take it back, though the store still lacks it.
    await Writer(redis, await read_meta(redis)).merge([other, person], [Change(1, is_add=True)])
    await publisher.step()
    await follower.look()
    [followed, _] = await read_records(link.pod, meta, [person, other])
    assert followed == Record((OptOut(EVERYONE, OptOutAction.ERASURE),))
    await link.pod.flushall()
    await link.publisher().step()
    await link.follower().look()
    [followed] = await read_records(link.pod, meta, [person])
    assert followed == Record((OptOut(EVERYONE, OptOutAction.ERASURE),))


async def test_bounded_increments_come_to_the_same(link: Link) -> None:
    publisher = link.publisher(options=PublishOptions(0, 0, buckets_at_once=3))
    follower = link.follower()
    await publisher.step()
    await follower.look()
    await link.history.happen_all(files=2)
    steps = 0
    while not steps or publisher._owed:
        await publisher.step()
        await follower.look()
        steps += 1

    assert steps > 3
    assert follower.counts[FollowEvent.FULL] == 1
    assert await link.followed() == await link.history.dump()


async def test_latest_is_written_though_nothing_changes_and_only_while_it_is_true(
    link: Link, redis: Redis
) -> None:
    publisher, follower = link.publisher(), link.follower()
    await publisher.step()
    first = latest_of(link)
    await publisher.step()
    assert latest_of(link) == first

    link.clock.ahead_s += 26
    await publisher.step()
    second = latest_of(link)
    await follower.look()

    assert second.made_at_s >= first.made_at_s + 26
    assert (second.number > first.number, second.state) == (True, first.state)
    assert follower.age_s < 5
    await redis.hset("seg:1:meta", "unfilled", "1")
    link.clock.ahead_s += 26
    with pytest.raises(StoreUnusable, match="came back empty"):
        await publisher.step()
    assert latest_of(link) == second


async def test_store_that_is_made_anew_is_published_anew_and_never_half(
    link: Link, redis: Redis
) -> None:
    await link.history.happen_all(files=2)
    publisher, follower = link.publisher(), link.follower()
    await publisher.step()
    await follower.look()
    before = latest_of(link)
    await redis.delete("seg:1:meta")
    with pytest.raises(StoreUnusable):
        await publisher.step()
    await redis.flushall()
    await prepare(redis, link.history.settings.expected_ids)
    await catch_up(link.history.ledger, redis, link.history.settings.expected_ids)
    with pytest.raises(StoreUnusable):
        await publisher.step()
    assert latest_of(link) == before

    await rebuilt(link.history)
    await publisher.step()
    await follower.look()

    assert latest_of(link).full.number > before.full.number
    assert await link.followed() == await link.history.dump()


async def test_store_that_is_emptied_while_it_is_read_is_not_published(
    link: Link, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await link.history.happen_all(files=2)
    publisher = link.publisher()
    await publisher.step()
    before = latest_of(link)
    await link.history.happen_all(files=1)
    real = BucketReader.read

    async def emptied(*arguments):  # type: ignore[no-untyped-def]
        async for buckets in real(*arguments):
            yield buckets
            saved = await redis.hgetall("seg:1:meta")
            await redis.flushall()
            await redis.hset("seg:1:meta", mapping=saved)  # type: ignore[arg-type]

    monkeypatch.setattr(BucketReader, "read", emptied)

    with pytest.raises(StoreUnusable, match="became another"):
        await publisher.step()

    assert latest_of(link) == before


# What a follower believes.


async def test_another_key_is_not_believed(link: Link) -> None:
    await link.publisher().step()
    other = public_text(Ed25519PrivateKey.generate().public_key())
    follower = link.follower(Keys.of([other]))

    with pytest.raises(NotSigned):
        await follower.look()

    assert not follower.may_be_believed
    assert not await link.pod.exists("seg:1:meta")


async def test_older_latest_is_ignored_and_counted_also_after_a_restart(
    link: Link, tmp_path: Path
) -> None:
    publisher, follower = link.publisher(), link.follower()
    await publisher.step()
    older = (link.directory / "LATEST").read_bytes()
    await link.history.happen_all(files=1)
    await publisher.step()
    await follower.look()
    state = follower.state

    (link.directory / "LATEST").write_bytes(older)
    await follower.look()
    restarted = link.follower(spool_dir=follower._spool_dir)
    await restarted.look()

    assert follower.state == state
    assert follower.counts[FollowEvent.OLDER_LATEST] == 1
    assert (restarted.state, restarted.counts[FollowEvent.OLDER_LATEST]) == (None, 1)
    link.clock.ahead_s += MAX_AGE_S
    assert not follower.may_be_believed


@pytest.mark.parametrize("harm", ["deleted", "cut", "changed", "emptied"])
async def test_increment_that_is_missing_or_damaged_leads_to_a_full_anew(
    link: Link, harm: str
) -> None:
    publisher = link.publisher(options=PublishOptions(0, 0, full_every_s=100))
    follower = link.follower()
    await publisher.step()
    await follower.look()
    await link.history.happen_all(files=1)
    await publisher.step()
    [increment] = latest_of(link).increments
    damage(link.directory / increment.name, harm)
    state = follower.state
    # No full is behind it yet: what there is stays, and becomes too old.
    with pytest.raises((PlaceAway, DamagedFile)):
        await follower.look()
    assert follower.state == state
    link.clock.ahead_s += 101
    await publisher.step()
    await publisher.full_made()
    await publisher.step()

    await follower.look()

    assert follower.counts[FollowEvent.FULL] == 2
    assert follower.counts[FollowEvent.UNUSABLE_INCREMENT] == 2
    assert await link.followed() == await link.history.dump()


def damage(path: Path, harm: str) -> None:
    raw = path.read_bytes()
    if harm == "deleted":
        path.unlink()
    else:
        changed = raw[:-1] + bytes([raw[-1] ^ 1])
        path.write_bytes({"cut": raw[:-1], "emptied": b"", "changed": changed}[harm])


async def test_full_of_a_later_version_leaves_the_data_as_they_are(link: Link) -> None:
    publisher, follower = link.publisher(), link.follower()
    await link.history.happen_all(files=1)
    await publisher.step()
    await follower.look()
    before, state = await link.followed(), follower.state
    latest = latest_of(link)
    path = link.directory / latest.full.name
    later = path.read_bytes().replace(b"full 1", b"full 2", 1)
    path.write_bytes(later)
    full = replace(latest.full, sha256=sha256(later).hexdigest(), number=latest.number + 1)
    path.rename(link.directory / full.name)
    newer = replace(latest, full=full, number=full.number, increments=())
    (link.directory / "LATEST").write_bytes(sign(newer, KEY))

    with pytest.raises(NewerFile, match=rf"^{full.name}: it has schema 2 and"):
        await follower.look()

    assert (follower.state, await link.followed()) == (state, before)
    assert (await read_meta(link.pod)).opt_outs == state.opt_outs if state else False
    assert follower.may_be_believed


async def test_number_is_kept_before_the_first_file_is_applied(link: Link) -> None:
    """A follower that is killed in between does not go back either."""
    publisher, follower = link.publisher(), link.follower()
    await publisher.step()
    older = (link.directory / "LATEST").read_bytes()
    await link.history.happen_all(files=1)
    await publisher.step()
    (link.directory / latest_of(link).full.name).unlink()
    with pytest.raises(NotThere):
        await follower.look()

    (link.directory / "LATEST").write_bytes(older)
    restarted = link.follower(spool_dir=follower._spool_dir)
    await restarted.look()

    assert (restarted.state, restarted.counts[FollowEvent.OLDER_LATEST]) == (None, 1)


async def test_copies_of_a_look_that_failed_leave_room_for_newer_ones(link: Link) -> None:
    publisher, follower = link.publisher(), link.follower()
    await publisher.step()
    await link.history.happen_all(files=1)
    await publisher.step()
    first = latest_of(link)
    (link.directory / first.increments[-1].name).unlink()
    with pytest.raises(NotThere):
        await follower.look()
    assert first.full.name in {path.name for path in follower._spool_dir.iterdir()}

    await link.publisher().step()
    (link.directory / latest_of(link).full.name).unlink()
    with pytest.raises(NotThere):
        await follower.look()

    assert first.full.name not in {path.name for path in follower._spool_dir.iterdir()}


async def test_damaged_full_is_not_begun_with(link: Link) -> None:
    await link.history.happen_all(files=1)
    publisher, follower = link.publisher(), link.follower()
    await publisher.step()
    damage(link.directory / latest_of(link).full.name, "changed")

    with pytest.raises(DamagedFile, match="another than LATEST says"):
        await follower.look()

    assert not await link.pod.exists("seg:1:meta")


async def test_place_that_is_gone_makes_what_is_followed_too_old(link: Link) -> None:
    publisher, follower = link.publisher(), link.follower()
    await publisher.step()
    await follower.look()
    link.directory.rename(link.tmp_path / "gone")

    with pytest.raises(PlaceAway):
        await follower.look()
    link.clock.ahead_s += MAX_AGE_S - FRESH_FOR_S - 5
    assert follower.may_be_believed
    link.clock.ahead_s += 6
    assert not follower.may_be_believed


async def test_age_is_told_by_a_clock_that_goes_right_where_the_other_does_not(link: Link) -> None:
    publisher, follower = link.publisher(), link.follower()
    link.clock.ahead_s = 5000  # of the publisher
    await publisher.step()
    link.clock.ahead_s = 0
    await follower.look()
    assert follower.age_s < 5

    follower._monotonic_s = lambda: follower._seen_at_s + MAX_AGE_S
    assert not follower.may_be_believed


async def test_server_that_was_started_anew_is_filled_again(link: Link, pod_server: Engine) -> None:
    await link.history.happen_all(files=1)
    publisher, follower = link.publisher(), link.follower()
    await publisher.step()
    await follower.look()

    pod_server.kill()
    pod_server.start()
    await follower.look()

    assert follower.counts[FollowEvent.FULL] == 2
    assert await link.followed() == await link.history.dump()


async def test_bids_hear_of_it_only_while_it_may_be_believed(link: Link) -> None:
    publisher, follower = link.publisher(), link.follower()
    await follower.raise_fresh()
    assert not await link.pod.exists("seg:1:fresh")
    await publisher.step()
    await follower.look()
    await follower.raise_fresh()
    assert await link.pod.get("seg:1:fresh") == b"1"

    link.clock.ahead_s += MAX_AGE_S
    await follower.raise_fresh()

    assert await link.pod.get("seg:1:fresh") == b"1"


# Whose part is published.


async def audience(link: Link, owner_name: str, segment_id: str) -> int:
    async with link.history.ledger.begin() as conn:
        owner = await accounts.partner(conn, owner_name)
        made = await audiences.find_or_create_audience(
            conn, owner, owner, segment_id, segment_id, now_s=1.0
        )
    await publish_catalog(link.history.ledger, link.history.redis)
    return made.id


async def recipient(link: Link, name: str, *partners: str) -> None:
    async with link.history.ledger.begin() as conn:
        made = await recipients.add_recipient(conn, name, now_s=1.0)
        for partner in partners:
            await recipients.grant(conn, made, await accounts.partner(conn, partner))
            made = await recipients.recipient(conn, name)


async def account(link: Link, kind: AccountKind, name: str) -> int:
    async with link.history.ledger.begin() as conn:
        return (await accounts.add_account(conn, kind, name, name, now_s=1.0)).id


def all_bytes(link: Link) -> set[str]:
    """Return the names of all published files but LATEST."""
    return {path.name for path in link.directory.iterdir() if path.name != "LATEST"}


async def test_only_the_part_of_the_named_recipients_is_published(link: Link, redis: Redis) -> None:
    ours = link.history.partner.public_id
    other = await account(link, AccountKind.ADVERTISER, "other")
    third = await account(link, AccountKind.ADVERTISER, "third")
    group = await account(link, AccountKind.PUBLISHER, "elsewhere")
    await recipient(link, "bidder", ours)
    await recipient(link, "stranger", "other", "third")
    mine, theirs = await audience(link, ours, "1"), await audience(link, "other", "2")
    a, b, c, d, e = ids_of(HASHES[:5])
    writer = Writer(redis, await read_meta(redis))
    await writer.merge([a, b, d], [Change(mine, True), Change(theirs, True)])
    await writer.merge([c], [Change(theirs, True)])

    async def no(person: bytes, account_id: int | None) -> None:
        ids = [(IdentifierKind.EMAIL, person)]
        await record_opt_out(link.history.ledger, redis, OptOutAction.RESTRICT, ids, account_id)  # type: ignore[arg-type]

    await no(b, other)  # of no effect here
    await no(c, third)
    await no(d, None)
    await no(e, group)  # on its inventory, whatever is shown there
    await link.publisher(["bidder"]).step()
    await link.follower().look()

    meta = await read_meta(link.pod)
    assert await read_records(link.pod, meta, [a, b, c, d, e]) == [
        Record((), (Membership(mine),)),
        Record((), (Membership(mine),)),
        Record(),
        Record((OptOut(EVERYONE, OptOutAction.RESTRICT),)),
        Record((OptOut(group, OptOutAction.RESTRICT),)),
    ]
    catalog = await read_catalog(link.pod)
    assert [each.id for each in catalog.audiences] == [mine]
    assert [each.name for each in catalog.recipients] == ["bidder"]
    assert {each.id for each in catalog.accounts} == {
        link.history.partner.id,
        link.history.publisher.id,
        group,
    }
    assert {each.name for each in catalog.accounts} == {"Partner", ""}


async def test_audience_that_comes_amid_a_step_is_published_with_its_members(
    link: Link, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bucket is taken by a step that has asked for the catalog before."""
    ours = link.history.partner.public_id
    await recipient(link, "bidder", ours)
    await audience(link, ours, "1")
    publisher, follower = link.publisher(["bidder"]), link.follower()
    await publisher.step()
    [person] = ids_of(HASHES[:1])
    real = ChangedBuckets.take
    made: list[int] = []

    async def take(*arguments: Any) -> list[int] | None:
        if not made:
            made.append(await audience(link, ours, "2"))
            writer = Writer(redis, await read_meta(redis))
            await writer.merge([person], [Change(made[0], True)])
        return await real(*arguments)

    monkeypatch.setattr(ChangedBuckets, "take", take)
    for _ in range(2):
        await publisher.step()
    await follower.look()

    meta = await read_meta(link.pod)
    assert await read_records(link.pod, meta, [person]) == [Record((), (Membership(made[0]),))]
    assert not publisher._owed


async def test_revoked_grant_leaves_and_a_new_one_comes_without_a_full_for_who_follows(
    link: Link, redis: Redis
) -> None:
    ours = link.history.partner.public_id
    await account(link, AccountKind.ADVERTISER, "other")
    await recipient(link, "bidder", ours, "other")
    mine, theirs = await audience(link, ours, "1"), await audience(link, "other", "2")
    [person] = ids_of(HASHES[:1])
    await Writer(redis, await read_meta(redis)).merge(
        [person], [Change(mine, True), Change(theirs, True)]
    )
    publisher, follower = link.publisher(["bidder"]), link.follower()
    await publisher.step()
    await follower.look()
    before = all_bytes(link)
    meta = await read_meta(link.pod)

    async def change(how: str) -> tuple[list[int], Record]:
        async with link.history.ledger.begin() as conn:
            found = await recipients.recipient(conn, "bidder")
            act = recipients.grant if how == "grant" else recipients.revoke
            await act(conn, found, await accounts.partner(conn, "other"))
        await publisher.step()
        await follower.look()
        [record] = await read_records(link.pod, meta, [person])
        return [each.id for each in (await read_catalog(link.pod)).audiences], record

    assert await change("revoke") == ([mine], Record((), (Membership(mine),)))
    # A full without it follows, and those with it are deleted.
    await publisher.full_made()
    for _ in range(3):
        await publisher.step()
        link.clock.ahead_s += 61
    assert not before & all_bytes(link)

    both = (Membership(mine), Membership(theirs))
    assert await change("grant") == ([mine, theirs], Record((), both))
    assert follower.counts[FollowEvent.FULL] == 1


async def test_unreadable_record_is_published_as_one_and_nothing_of_it(
    link: Link, redis: Redis
) -> None:
    await recipient(link, "bidder", link.history.partner.public_id)
    bucket, secret = keys.bucket_key(3), b"\x10secret that nobody may read"
    await redis.hset(bucket, mapping={b"12345678": secret})
    await link.publisher(["bidder"]).step()
    await link.follower().look()

    [followed] = (await link.followed())[bucket].values()

    with pytest.raises(CorruptRecord):
        unpack(followed)
    assert b"secret" not in followed


async def test_latest_of_another_ledger_begins_anew(link: Link) -> None:
    await link.publisher().step()
    follower = link.follower()
    await follower.look()
    latest = latest_of(link)
    other = replace(latest, ledger="another", number=latest.state)
    (link.directory / "LATEST").write_bytes(sign(other, KEY))

    await follower.look()

    assert follower.counts[FollowEvent.FULL] == 2
