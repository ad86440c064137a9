"""
A publisher that is killed at any step loses no change and publishes nothing untrue.

Each step below is a call by which a publisher changes anything outside of itself, or reads what it
is about to publish. It is killed before the call, or after it and before its answer. The next
publisher, on the same store and directory, goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from redis.asyncio import Redis

from segments.files.published_place import PublishedPlace
from segments.ledger import accounts, audiences, recipients
from segments.model.account import AccountKind
from segments.model.identity import Id, IdentifierKind
from segments.model.record import Change, OptOutAction
from segments.projection.catalog import publish_catalog
from segments.projection.opt_outs import record_opt_out
from segments.publish.buckets import BucketReader
from segments.publish.options import PublishOptions
from segments.publish.publisher import Publisher
from segments.store.changed_buckets import ChangedBuckets
from segments.store.published.latest import Latest, read
from segments.store.reader import read_meta, read_records
from segments.store.writer import Writer
from tests.segments.follow.conftest import TRUSTED, Link
from tests.segments.ingest.deliveries import ids_of
from tests.segments.upkeep.histories import HASHES

STEPS = [
    (PublishedPlace, "read"),
    (PublishedPlace, "names"),
    (PublishedPlace, "put"),
    (PublishedPlace, "delete"),
    (ChangedBuckets, "begin"),
    (ChangedBuckets, "resume"),
    (ChangedBuckets, "take"),
    (ChangedBuckets, "note"),
    (ChangedBuckets, "done"),
    (BucketReader, "_held"),
]
EACH = {f"{of.__name__}.{name}": (of, name) for of, name in STEPS}
IDS = ids_of(HASHES)
FEW = PublishOptions(opt_outs_every_s=0, changes_every_s=0, buckets_at_once=20, full_every_s=50)


class Killed(BaseException):
    """The end of a publisher, as far as it can tell."""


@dataclass
class Knife:
    """Kills before or after the n-th call of a step, and counts the calls."""

    at: int = 0
    is_after: bool = False
    calls: int = 0

    def over(self, real: Callable[..., Any]) -> Callable[..., Any]:
        async def cut(*arguments: Any, **more: Any) -> Any:
            self.calls += 1
            if self.calls != self.at:
                return await real(*arguments, **more)
            if self.is_after:
                await real(*arguments, **more)
            raise Killed

        return cut


@dataclass
class World:
    """Two partners, a recipient that sees one or both, and what happens to their persons."""

    link: Link
    writer: Writer
    ours: int
    theirs: int
    said_no: set[Id]

    async def change(self, n: int) -> None:
        """Add and remove members, let some persons say no, and grant or revoke now and then."""
        some = IDS[n * 7 % 300 :][:60]
        await self.writer.merge(some, [Change(self.ours, is_add=n % 3 != 2, expiry_day=3000 + n)])
        await self.writer.merge(some[::2], [Change(self.theirs, is_add=True)])
        history = self.link.history
        no = IDS[300 + n]
        ids = [(IdentifierKind.EMAIL, no)]
        await record_opt_out(history.ledger, history.redis, OptOutAction.RESTRICT, ids, None)
        self.said_no.add(no)
        if n % 4 in (1, 3):
            async with history.ledger.begin() as conn:
                found = await recipients.recipient(conn, "bidder")
                act = recipients.grant if n % 4 == 1 else recipients.revoke
                await act(conn, found, await accounts.partner(conn, "other"))


@pytest.fixture
async def world(link: Link, redis: Redis) -> World:
    history = link.history
    async with history.ledger.begin() as conn:
        other = await accounts.add_account(
            conn, AccountKind.ADVERTISER, "other", "other", now_s=1.0
        )
        ours, theirs = [
            (await audiences.find_or_create_audience(conn, of, of, "1", "1", now_s=1.0)).id
            for of in (history.partner, other)
        ]
        bidder = await recipients.add_recipient(conn, "bidder", now_s=1.0)
        await recipients.grant(conn, bidder, history.partner)
    await publish_catalog(history.ledger, redis)
    return World(link, Writer(redis, await read_meta(redis)), ours, theirs, set())


def latest_of(link: Link) -> Latest:
    return read((link.directory / "LATEST").read_bytes(), TRUSTED)


async def publish_all(link: Link, publisher: Publisher) -> None:
    """Step until nothing is owed, a full that is due included."""
    for _ in range(30):
        await publisher.step()
        was_making = publisher._fulls.making is not None
        await publisher.full_made()
        if not was_making and not publisher._owed:
            return
    raise AssertionError("it does not come to an end")


async def as_from_the_start(world: World) -> dict[bytes, dict[bytes, bytes]]:
    """Return what the follower of a new publication has, in another place."""
    link = world.link
    await link.pod.flushall()
    new = Link(link.history, link.pod, link.tmp_path / "anew", f"file://{link.tmp_path}/anew/p")
    new.tmp_path.mkdir(exist_ok=True)
    publisher = new.publisher(["bidder"], name="anew")
    await publisher.step()
    await new.follower().look()
    return await new.followed()


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", EACH)
async def test_killed_publisher_loses_nothing_and_its_successor_says_nothing_untrue(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str, is_after: bool
) -> None:
    link, (of, name) = world.link, EACH[step]
    real, follower = getattr(of, name), link.follower()
    kills = 0
    for n in range(4):
        await world.change(n)
        knife = Knife(at=(1, 2, 4, 1)[n], is_after=is_after)
        publisher = link.publisher(["bidder"], FEW)
        with monkeypatch.context() as patch:
            patch.setattr(of, name, knife.over(real))
            try:
                await publish_all(link, publisher)
                link.clock.ahead_s += 61
                await publish_all(link, publisher)
            except Killed:
                kills += 1
            await publisher.stop()
        # Whatever is said by now is true: an opt-out up to the number is in force.
        if (link.directory / "LATEST").exists():
            await follower.look()
            said = latest_of(link).opt_outs
            meta = await read_meta(link.pod)
            assert meta.opt_outs == said
            no = [IDS[300 + each] for each in range(said)]
            assert all(each.opt_outs for each in await read_records(link.pod, meta, no))
    assert kills or step == "PublishedPlace.delete"

    await publish_all(link, link.publisher(["bidder"], FEW))
    await follower.look()

    followed = await link.followed()
    assert followed == await as_from_the_start(world)
