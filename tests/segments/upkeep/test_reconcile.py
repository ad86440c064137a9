"""A backup of the ledger is started beside the store that went on without it."""

import time
from collections.abc import AsyncIterator, Sequence

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.files.blobs import Blobs
from segments.ingest.tools import Tools
from segments.ledger import accounts, activations, audiences, recipient_tokens, recipients
from segments.ledger.activations import Activation
from segments.ledger.database.engine import open_ledger, reading
from segments.ledger.privacy import access_requests, audit, opt_outs
from segments.ledger.privacy.access_requests import NewAccess, SubjectId
from segments.ledger.recipients import Recipient
from segments.model.account import Account, AccountKind
from segments.model.audience import Audience, AudienceState
from segments.model.identity import Id, IdentifierKind
from segments.model.record import EVERYONE, Change, OptOut, OptOutAction, Record
from segments.model.refusal import Refusal
from segments.projection.catalog import catch_up
from segments.projection.one_ledger import OtherLedger, own_meta
from segments.projection.opt_outs import record_opt_out
from segments.settings import Settings
from segments.store import job_marks, keys
from segments.store.reader import LedgerBehind, read_catalog, read_meta, read_records, read_whose
from segments.store.servers.connection import connect
from segments.store.writer import Writer
from segments.upkeep.rebuild import rebuild
from segments.upkeep.reconcile import Reconciled, adopt, reconcile
from tests.cluster import TestCluster
from tests.engines import Engine
from tests.ledger_seed import Seeded, seed
from tests.segments.backups import Backups
from tests.segments.ledger.some_jobs import submit

CATALOG = (keys.VERSION, keys.AUDIENCES, keys.ACCOUNTS, keys.RECIPIENTS)
ADA, BOB, CYD = Id(b"a" * 16), Id(b"b" * 16), Id(b"c" * 16)
RESTRICTED = OptOut(EVERYONE, OptOutAction.RESTRICT)


class World:
    """A ledger, the store that goes on, and the copy that is started beside it."""

    def __init__(
        self, ledger: AsyncEngine, redis: Redis, settings: Settings, backups: Backups
    ) -> None:
        self.ledger = ledger
        self.redis = redis
        self.settings = settings
        self._backups = backups

    async def begin(self) -> None:
        self.seeded: Seeded = await seed(self.ledger)
        await catch_up(self.ledger, self.redis, self.settings.expected_ids)

    async def dump(self) -> None:
        self.copy = await self._backups.take(self.ledger, self.settings)

    async def add_audience(self, ledger: AsyncEngine, segment_id: str) -> Audience:
        added = await self.make_audience(ledger, segment_id)
        await catch_up(ledger, self.redis, self.settings.expected_ids)
        return added

    async def make_audience(self, ledger: AsyncEngine, segment_id: str) -> Audience:
        """Make one that the store hears nothing of."""
        async with ledger.begin() as conn:
            return await audiences.find_or_create_audience(
                conn, self.seeded.shop, self.seeded.shop, segment_id, "Name", now_s=0
            )

    async def add_member(self, ledger: AsyncEngine, id_: Id, audience_id: int) -> None:
        writer = Writer(self.redis, await own_meta(ledger, self.redis))
        await writer.merge([id_], [Change(audience_id, is_add=True)])

    async def say_no(
        self,
        ledger: AsyncEngine,
        id_: Id,
        action: OptOutAction = OptOutAction.RESTRICT,
        account: Account | None = None,
    ) -> None:
        account_id = None if account is None else account.id
        person = [(IdentifierKind.EMAIL, id_)]
        receipt = await record_opt_out(ledger, self.redis, action, person, account_id)
        assert not receipt.waits_because

    def tools(self, ledger: AsyncEngine) -> Tools:
        blobs = Blobs.in_directory(self.settings.data_dir / "blobs")
        return Tools(ledger, self.redis, blobs, self.settings.data_dir / "spool", time.time)

    async def reconcile(self, ledger: AsyncEngine) -> Reconciled:
        found = await reconcile(self.tools(ledger), settle_s=0)
        assert found is not None
        await catch_up(ledger, self.redis, self.settings.expected_ids)
        return found

    async def rebuild(self, ledger: AsyncEngine, expected_ids: int = 10_000) -> None:
        await rebuild(self.tools(ledger), expected_ids, settle_s=0)

    async def records(self, *ids: Id) -> Sequence[Record]:
        return await read_records(self.redis, await read_meta(self.redis), ids)


@pytest.fixture
async def world(
    ledger: AsyncEngine, valkey: Engine, settings: Settings, backups: Backups
) -> AsyncIterator[World]:
    """A ledger on each database, with one of everything, and its store."""
    async with connect(valkey.url, retry=None) as redis:
        begun = World(ledger, redis, settings, backups)
        await begun.begin()
        yield begun


async def test_no_number_is_given_twice(world: World) -> None:
    await world.dump()
    lost = await world.add_audience(world.ledger, "9")
    await world.say_no(world.ledger, ADA)
    told = (await read_whose(world.redis)).last_opt_out
    async with open_ledger(world.copy.ledger_dsn) as restored:
        await world.reconcile(restored)

        new = await world.add_audience(restored, "10")
        async with restored.begin() as conn:
            person = [(IdentifierKind.EMAIL, CYD)]
            [request] = await opt_outs.record(conn, OptOutAction.RESTRICT, [person], now_s=0)
            account = await accounts.add_account(conn, AccountKind.ADVERTISER, "n", "N", now_s=0)
            said = await opt_outs.said_ids(conn, behind=None, limit=10)

    assert new.id > lost.id
    assert [each.seq > told for each in said] == [True, True], "the one that was taken over, too"
    assert request.seq == said[-1].seq
    assert account.id > world.seeded.sub.id


async def test_account_that_is_gone_leaves_its_number_to_nobody(world: World) -> None:
    await world.dump()
    async with world.ledger.begin() as conn:
        lost = await accounts.add_account(conn, AccountKind.ADVERTISER, "lost", "L", now_s=0)
    await catch_up(world.ledger, world.redis, world.settings.expected_ids)
    async with open_ledger(world.copy.ledger_dsn) as restored:
        found = await world.reconcile(restored)

        async with restored.begin() as conn:
            new = await accounts.add_account(conn, AccountKind.ADVERTISER, "new", "N", now_s=0)

    assert new.id > lost.id
    assert f"account {lost.id}: advertiser lost" in found.gone


async def test_new_audience_shows_nobody_of_the_lost_one(world: World) -> None:
    await world.dump()
    lost = await world.add_audience(world.ledger, "9")
    await world.add_member(world.ledger, ADA, lost.id)
    await world.add_member(world.ledger, ADA, world.seeded.shoes.id)
    async with open_ledger(world.copy.ledger_dsn) as restored:
        found = await world.reconcile(restored)

        [record] = await world.records(ADA)

    assert [m.audience_id for m in record.memberships] == [world.seeded.shoes.id]
    assert f"audience {lost.id}: segment 9 of shop" in found.gone


async def test_number_that_a_copy_gave_again_before_it_was_noticed_shows_nobody(
    world: World,
) -> None:
    """As when the ledger is set back under processes that run."""
    await world.dump()
    lost = await world.add_audience(world.ledger, "9")
    await world.add_audience(world.ledger, "10")
    await world.add_member(world.ledger, ADA, lost.id)
    async with open_ledger(world.copy.ledger_dsn) as restored:
        async with restored.begin() as conn:
            again = await audiences.find_or_create_audience(
                conn, world.seeded.sub, world.seeded.agency, "77", "Name", now_s=0
            )
        assert again.id == lost.id

        await world.reconcile(restored)

        assert await world.records(ADA) == [Record()]


async def test_as_many_audiences_as_were_lost_show_nobody_of_theirs(world: World) -> None:
    """Made while the store was away: their numbers are those of the lost ones."""
    await world.dump()
    lost = await world.add_audience(world.ledger, "9")
    await world.add_member(world.ledger, ADA, lost.id)
    async with open_ledger(world.copy.ledger_dsn) as restored:
        new = await world.make_audience(restored, "77")
        next_ = await world.make_audience(restored, "78")
        assert new.id == lost.id

        found = await world.reconcile(restored)
        shown = await read_catalog(world.redis)

        assert await world.records(ADA) == [Record()]
    assert f"audience {lost.id}: segment 9 of shop" in found.gone
    assert {new.id, next_.id} <= {entry.id for entry in shown.audiences}
    assert not found.again


async def test_what_was_deleted_is_so_again_though_the_copy_changed_as_much(world: World) -> None:
    await world.dump()
    async with world.ledger.begin() as conn:
        await audiences.set_state(conn, world.seeded.shoes, AudienceState.DELETED, now_s=0)
    await catch_up(world.ledger, world.redis, world.settings.expected_ids)
    async with open_ledger(world.copy.ledger_dsn) as restored:
        new = await world.make_audience(restored, "77")
        await world.make_audience(restored, "78")

        await world.reconcile(restored)

        shown = {entry.id for entry in (await read_catalog(world.redis)).audiences}
    assert new.id in shown
    assert world.seeded.shoes.id not in shown


async def test_catalog_that_a_rebuild_took_away_deletes_nothing(world: World) -> None:
    await world.dump()
    await world.add_audience(world.ledger, "9")
    await world.redis.delete(*CATALOG)
    async with open_ledger(world.copy.ledger_dsn) as restored:
        await world.make_audience(restored, "77")

        found = await world.reconcile(restored)

        shown = {entry.id for entry in (await read_catalog(world.redis)).audiences}
    assert not found.again
    assert world.seeded.shoes.id in shown


@pytest.mark.parametrize("expected_ids", [10_000, 100_000, 1_000], ids=["same", "more", "fewer"])
async def test_opt_out_that_only_the_store_knew_outlives_a_rebuild(
    world: World, expected_ids: int
) -> None:
    """Also one into more buckets: all in which the person may lie have it then."""
    await world.say_no(world.ledger, BOB)
    await world.dump()
    await world.say_no(world.ledger, ADA)
    await world.say_no(world.ledger, CYD, OptOutAction.ERASURE, world.seeded.shop)
    async with open_ledger(world.copy.ledger_dsn) as restored:
        found = await world.reconcile(restored)
        assert found.opt_outs == 2

        await world.redis.flushall()
        await world.rebuild(restored, expected_ids)

        ada, bob, cyd = await world.records(ADA, BOB, CYD)
    assert ada.opt_outs == bob.opt_outs == (RESTRICTED,)
    assert cyd.opt_outs == (OptOut(world.seeded.shop.id, OptOutAction.ERASURE),)


async def test_store_that_is_emptied_and_caught_up_has_it_too(world: World) -> None:
    await world.dump()
    await world.say_no(world.ledger, ADA)
    async with open_ledger(world.copy.ledger_dsn) as restored:
        await world.reconcile(restored)
        await world.redis.flushall()

        await catch_up(restored, world.redis, world.settings.expected_ids)

        [record] = await world.records(ADA)
    assert record.opt_outs == (RESTRICTED,)


async def test_opt_out_of_an_account_that_is_gone_is_everybodys(world: World) -> None:
    await world.dump()
    async with world.ledger.begin() as conn:
        lost = await accounts.add_account(conn, AccountKind.ADVERTISER, "lost", "L", now_s=0)
    await catch_up(world.ledger, world.redis, world.settings.expected_ids)
    await world.say_no(world.ledger, ADA, account=lost)
    async with open_ledger(world.copy.ledger_dsn) as restored:
        await world.reconcile(restored)

        [record] = await world.records(ADA)

    assert RESTRICTED in record.opt_outs


async def test_what_was_deleted_hidden_or_revoked_since_is_so_again(world: World) -> None:
    await world.dump()
    seeded = world.seeded
    async with world.ledger.begin() as conn:
        await audiences.set_state(conn, seeded.shoes, AudienceState.DELETED, now_s=0)
        await audiences.set_state(conn, seeded.hats, AudienceState.DEACTIVATED, now_s=0)
        await accounts.set_account_active(conn, seeded.agency, False)
        await recipients.revoke(conn, seeded.dsp, seeded.shop)
    await catch_up(world.ledger, world.redis, world.settings.expected_ids)
    before = await read_catalog(world.redis)
    async with open_ledger(world.copy.ledger_dsn) as restored:
        found = await world.reconcile(restored)

        after = await read_catalog(world.redis)

    assert after._replace(version=0) == before._replace(version=0)
    assert after.version > before.version
    assert len(found.again) == 4


async def test_token_that_was_revoked_since_is_so_again_and_one_that_was_needed_is_needed(
    world: World,
) -> None:
    """A copy that went back to serving whoever names the recipient would undo the act."""
    dsp = world.seeded.dsp
    async with world.ledger.begin() as conn:
        other = await recipients.add_recipient(conn, "dsp-b", now_s=0)
        await recipient_tokens.issue(conn, dsp, is_needed=True, now_s=0)
    await world.dump()
    async with world.ledger.begin() as conn:
        await recipient_tokens.revoke(conn, dsp, 1, now_s=0)
        await recipient_tokens.need(conn, other)
        await recipients.set_certificates(conn, other, ["dns:b.example"])
        await recipient_tokens.issue(conn, dsp, is_needed=True, now_s=0)
    await catch_up(world.ledger, world.redis, world.settings.expected_ids)
    async with open_ledger(world.copy.ledger_dsn) as restored:
        found = await world.reconcile(restored)
        catalog = await read_catalog(world.redis)

    assert [each.tokens for each in catalog.recipients] == [(), ()]
    assert [each.certificates for each in catalog.recipients] == [None, ("dns:b.example",)]
    assert set(found.again) == {
        "recipient dsp-a: token 1 is revoked",
        "recipient dsp-b: needs a token",
        "recipient dsp-b: needs a certificate of dns:b.example",
    }
    assert "a token of recipient dsp-a: issue another" in found.gone


async def activate(
    conn: AsyncConnection, audience: Audience, recipient: Recipient, *, until_s: int
) -> Activation:
    return await activations.activate(
        conn,
        audience,
        recipient,
        name="Name",
        description=None,
        live_from_s=1,
        live_until_s=until_s,
        now_s=0,
    )


async def test_window_that_was_moved_since_is_moved_again(world: World) -> None:
    """The partner was told that nobody sees it any more; the backup would show it again."""
    seeded = world.seeded
    async with world.ledger.begin() as conn:
        first = await activate(conn, seeded.hats, seeded.dsp, until_s=2**31)
    await world.dump()
    async with world.ledger.begin() as conn:
        await audiences.set_window(conn, seeded.shoes, None, 86_400, now_s=0)
        await activations.move(conn, first, 1, 2, now_s=0)
        await recipients.set_hold_out(conn, seeded.dsp, 0.5)
    await catch_up(world.ledger, world.redis, world.settings.expected_ids)
    before = await read_catalog(world.redis)
    async with open_ledger(world.copy.ledger_dsn) as restored:
        found = await world.reconcile(restored)

        after = await read_catalog(world.redis)

    assert after._replace(version=0) == before._replace(version=0)
    assert found.again == (
        f"audience {seeded.shoes.id} (segment {seeded.shoes.segment_id}):"
        " shown from any time until 1970-01-02T00:00:00+00:00",
        "recipient dsp-a: holds out 0.5",
        f"recipient dsp-a: audience {seeded.hats.id} shown from 1970-01-01T00:00:01+00:00"
        " until 1970-01-01T00:00:02+00:00",
    )


async def test_relation_that_only_the_store_knew_is_made_again(world: World) -> None:
    """The publisher's opt-outs hide its persons from the advertiser's audiences by it."""
    async with world.ledger.begin() as conn:
        paper = await accounts.add_account(conn, AccountKind.PUBLISHER, "paper", "P", now_s=0)
    await world.dump()
    async with world.ledger.begin() as conn:
        lost = await accounts.add_account(conn, AccountKind.ADVERTISER, "lost", "L", now_s=0)
        await accounts.relate(conn, paper, world.seeded.shop)
        await accounts.relate(conn, paper, lost)
        bidder = await recipients.add_recipient(conn, "bidder", now_s=0)
        await activate(conn, world.seeded.hats, bidder, until_s=2)
    await catch_up(world.ledger, world.redis, world.settings.expected_ids)
    async with open_ledger(world.copy.ledger_dsn) as restored:
        found = await world.reconcile(restored)

        async with reading(restored) as conn:
            assert (paper.id, world.seeded.shop.id) in await accounts.relations(conn)
    assert found.again == ("publisher paper: related to shop",)
    assert found.gone == (
        f"account {lost.id}: advertiser lost",
        "relation: publisher paper and lost",
        f"recipient {bidder.id}: bidder",
        f"activation: audience {world.seeded.hats.id} for recipient bidder",
    )


async def test_erasure_that_only_the_store_knew_withdraws_reports(world: World) -> None:
    """What was told of the person before is not there to be fetched any more."""
    async with world.ledger.begin() as conn:
        transaction_ids = [
            await access_requests.add(
                conn,
                NewAccess([SubjectId(IdentifierKind.EMAIL, id_)], None),
                now_s=0,
            )
            for id_ in (ADA, BOB)
        ]
        for transaction_id in transaction_ids:
            access = await access_requests.find(conn, transaction_id)
            assert access is not None
            await access_requests.complete(
                conn, access, f"reports/{transaction_id}", now_s=0, expires_at_s=2**31
            )
    await world.dump()
    await world.say_no(world.ledger, ADA, OptOutAction.ERASURE)
    await world.say_no(world.ledger, BOB)
    async with open_ledger(world.copy.ledger_dsn) as restored:
        await world.reconcile(restored)

        async with reading(restored) as conn:
            found = [await access_requests.find(conn, each) for each in transaction_ids]

    ada, bob = (each.blob for each in found if each is not None)
    assert ada is None
    assert bob == f"reports/{transaction_ids[1]}"


async def test_job_that_is_gone_is_named_and_its_mark_taken_away(world: World) -> None:
    """A job to come that had its number would be taken for done."""
    await world.dump()
    await world.add_audience(world.ledger, "9")
    await job_marks.Mark(world.redis, 7).done()
    async with open_ledger(world.copy.ledger_dsn) as restored:
        found = await world.reconcile(restored)

    assert "job 7" in found.gone
    assert await job_marks.known(world.redis) == []


async def test_job_that_has_the_number_of_a_lost_one_is_not_taken_for_done(world: World) -> None:
    await world.dump()
    await world.add_audience(world.ledger, "9")
    await job_marks.Mark(world.redis, 1).done()
    async with open_ledger(world.copy.ledger_dsn) as restored:
        new = await submit(restored, world.seeded.shop.id)
        assert new.id == 1

        await world.reconcile(restored)

        assert await job_marks.missing(world.redis, [new.id]) == [new.id]


async def test_what_was_taken_over_stands_in_the_audit_trail(world: World) -> None:
    await world.dump()
    await world.say_no(world.ledger, ADA)
    async with open_ledger(world.copy.ledger_dsn) as restored:
        await world.reconcile(restored)

        async with reading(restored) as conn:
            whats = [entry["what"] async for entry in audit.entries(conn)]

    assert whats[-2:] == ["take over RESTRICT", "reconcile"]


async def test_ledger_that_is_not_behind_has_nothing_to_reconcile(world: World) -> None:
    assert await reconcile(world.tools(world.ledger), settle_s=0) is None


async def test_same_backup_restored_once_more_is_behind_once_more(world: World) -> None:
    await world.dump()
    await world.say_no(world.ledger, ADA)
    async with open_ledger(world.copy.ledger_dsn) as restored:
        second = await world._backups.take(restored, world.copy)
        await world.reconcile(restored)
        await world.say_no(restored, BOB)

    async with open_ledger(second.ledger_dsn) as restored:
        with pytest.raises(LedgerBehind):
            await own_meta(restored, world.redis)
        await world.reconcile(restored)
        ada, bob = await world.records(ADA, BOB)
        async with reading(restored) as conn:
            said = await opt_outs.said_ids(conn, behind=None, limit=10)

    assert ada.opt_outs == bob.opt_outs == (RESTRICTED,)
    assert len(said) == 2


@pytest.mark.xdist_group("cluster")  # six servers are enough at a time
async def test_cluster_is_reconciled_likewise(
    cluster: TestCluster, ledger: AsyncEngine, settings: Settings, backups: Backups
) -> None:
    persons = [Id(bytes([n]) * 16) for n in range(1, 200, 7)]
    async with connect(cluster.url) as redis:
        world = World(ledger, redis, settings, backups)
        await world.begin()
        await world.dump()
        lost = await world.add_audience(ledger, "9")
        for id_ in persons:
            await world.add_member(ledger, id_, lost.id)
            await world.say_no(ledger, id_)
        async with open_ledger(world.copy.ledger_dsn) as restored:
            with pytest.raises(LedgerBehind):
                await catch_up(restored, redis, settings.expected_ids)
            found = await world.reconcile(restored)
            assert found.opt_outs == len(persons)

            await world.rebuild(restored)

            records = await world.records(*persons)
    assert records == [Record((RESTRICTED,))] * len(persons)


@pytest.fixture
async def other(world: World, settings: Settings) -> AsyncIterator[AsyncEngine]:
    """Another ledger, with accounts of the same names under other numbers."""
    elsewhere = settings.model_copy(
        update={"data_dir": settings.data_dir.with_name("other"), "ledger_url": None}
    )
    async with open_ledger(elsewhere.ledger_dsn) as ledger:
        async with ledger.begin() as conn:
            await accounts.add_account(conn, AccountKind.PUBLISHER, "first", "First", now_s=0)
        await seed(ledger)
        yield ledger


async def test_store_of_another_ledger_is_adopted_with_its_opt_outs_alone(
    world: World, other: AsyncEngine
) -> None:
    await world.add_member(world.ledger, BOB, world.seeded.shoes.id)
    await world.say_no(world.ledger, ADA)
    await world.say_no(world.ledger, CYD, account=world.seeded.shop)
    theirs = (await read_whose(world.redis)).ledger_id

    found = await adopt(world.tools(other), theirs, settle_s=0)
    await world.rebuild(other)

    async with reading(other) as conn:
        shop = await accounts.partner(conn, "shop")
    assert shop.id != world.seeded.shop.id
    assert found.opt_outs == 2
    assert await world.records(ADA, BOB, CYD) == [
        Record((RESTRICTED,)),
        Record(),
        Record((OptOut(shop.id, OptOutAction.RESTRICT),)),
    ]
    with pytest.raises(OtherLedger):
        await catch_up(world.ledger, world.redis, world.settings.expected_ids)


async def test_store_is_adopted_from_the_ledger_that_is_named_alone(
    world: World, other: AsyncEngine
) -> None:
    with pytest.raises(Refusal, match=(await read_whose(world.redis)).ledger_id):
        await adopt(world.tools(other), "0" * 32, settle_s=0)

    await catch_up(world.ledger, world.redis, world.settings.expected_ids)
