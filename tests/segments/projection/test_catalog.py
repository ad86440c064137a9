import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import accounts, activations, audiences
from segments.ledger.database.engine import reading
from segments.ledger.revision import revision
from segments.model.account import AccountKind
from segments.model.audience import AudienceState
from segments.model.catalog import (
    AccountEntry,
    ActivationEntry,
    AudienceEntry,
    CatalogSnapshot,
    RecipientEntry,
)
from segments.model.identity import Id, IdentifierKind
from segments.model.record import EVERYONE, OptOut, OptOutAction, Record
from segments.projection.catalog import catch_up, publish_catalog
from segments.projection.opt_outs import record_opt_out
from segments.settings import Settings
from segments.store import keys
from segments.store.reader import StoreUnusable, read_catalog, read_meta, read_records, read_version
from segments.store.servers.connection import connect
from tests.cut_off import cut_off
from tests.engines import Engine
from tests.ledger_seed import NOW_S, seed

ADA = Id(b"a" * 16)


@pytest.fixture
async def redis(valkey: Engine) -> AsyncIterator[Redis]:
    """A client of a store that nobody has laid out yet."""
    async with connect(valkey.url, retry=None) as client:
        yield client


async def ledger_revision(ledger: AsyncEngine) -> int:
    async with reading(ledger) as conn:
        return await revision(conn)


async def test_catalog_shows_what_the_ledger_says(
    ledger: AsyncEngine, redis: Redis, settings: Settings
) -> None:
    seeded = await seed(ledger)
    async with ledger.begin() as conn:
        await audiences.set_window(conn, seeded.shoes, 5, 6, now_s=NOW_S)
        await audiences.set_state(conn, seeded.hats, AudienceState.DEACTIVATED, now_s=NOW_S)
        await accounts.set_account_active(conn, seeded.agency, False)

    await catch_up(ledger, redis, settings.expected_ids)

    group, publisher, shop, agency, sub, shoes, hats, dsp = (each.id for each in seeded)
    actual = await read_catalog(redis)
    assert actual == CatalogSnapshot(
        await ledger_revision(ledger),
        (
            AudienceEntry(shoes, shop, shop, "123", True, 5, 6),
            AudienceEntry(hats, sub, agency, "123", False),
        ),
        (
            AccountEntry(group, "media_group", "g", "Group", True),
            AccountEntry(publisher, "publisher", "p", "Publisher", True, group, (shop,)),
            AccountEntry(shop, "advertiser", "shop", "Shop", True, segtax=4),
            AccountEntry(agency, "agency", "agency", "Agency", False),
            AccountEntry(sub, "advertiser", "sub", "Sub", True, agency),
        ),
        (RecipientEntry(dsp, "dsp-a", True, (shop,)),),
    )


async def test_deleted_audience_leaves_the_catalog(
    ledger: AsyncEngine, redis: Redis, settings: Settings
) -> None:
    seeded = await seed(ledger)
    await catch_up(ledger, redis, settings.expected_ids)
    async with ledger.begin() as conn:
        await audiences.set_state(conn, seeded.shoes, AudienceState.DELETED, now_s=NOW_S)

    await publish_catalog(ledger, redis)

    assert [entry.id for entry in (await read_catalog(redis)).audiences] == [seeded.hats.id]


async def test_activations_stand_with_their_recipient(
    ledger: AsyncEngine, redis: Redis, settings: Settings
) -> None:
    seeded = await seed(ledger)
    async with ledger.begin() as conn:
        await activations.close(conn, seeded.shoes, now_s=NOW_S)
        activated = await activations.activate(
            conn,
            seeded.shoes,
            seeded.dsp,
            name="Shoes",
            description=None,
            live_from_s=5,
            live_until_s=6,
            now_s=NOW_S,
        )

    await catch_up(ledger, redis, settings.expected_ids)

    catalog = await read_catalog(redis)
    assert [recipient.activations for recipient in catalog.recipients] == [
        (ActivationEntry(seeded.shoes.id, activated.segment_id, 5, 6),)
    ]
    (shoes,) = [entry for entry in catalog.audiences if entry.id == seeded.shoes.id]
    assert (shoes.is_active, shoes.live_until_s) == (True, 0)


async def test_catalog_that_is_shown_already_is_not_published_again(
    ledger: AsyncEngine, redis: Redis, settings: Settings
) -> None:
    await seed(ledger)
    await catch_up(ledger, redis, settings.expected_ids)
    async with redis.pubsub() as subscriber:
        await subscriber.subscribe(keys.CHANGED)
        await subscriber.get_message(timeout=5)

        await catch_up(ledger, redis, settings.expected_ids)
        async with ledger.begin() as conn:
            await accounts.add_account(conn, AccountKind.AGENCY, "new", "New", now_s=NOW_S)
        version = await publish_catalog(ledger, redis)

        message = await subscriber.get_message(timeout=5)
        assert message is not None
        assert message["data"] == b"%d" % version
        assert version == await ledger_revision(ledger) == await read_version(redis)


async def test_publishers_that_race_end_with_the_newest(
    ledger: AsyncEngine, redis: Redis, settings: Settings, valkey: Engine
) -> None:
    await catch_up(ledger, redis, settings.expected_ids)

    async def add_and_publish(number: int) -> None:
        async with connect(valkey.url) as client:
            async with ledger.begin() as conn:
                await accounts.add_account(conn, AccountKind.AGENCY, f"a{number}", "A", now_s=NOW_S)
            await publish_catalog(ledger, client)

    await asyncio.gather(*(add_and_publish(number) for number in range(8)))

    catalog = await read_catalog(redis)
    assert catalog.version == await ledger_revision(ledger)
    assert len(catalog.accounts) == 8


async def test_store_that_was_lost_gets_the_catalog_again(
    ledger: AsyncEngine, redis: Redis, settings: Settings
) -> None:
    await seed(ledger)
    await catch_up(ledger, redis, settings.expected_ids)
    before = await read_catalog(redis)
    await redis.flushall()

    await catch_up(ledger, redis, settings.expected_ids)

    assert await read_catalog(redis) == before


async def test_new_store_is_laid_out_and_hears_the_opt_outs(
    ledger: AsyncEngine, redis: Redis, settings: Settings
) -> None:
    await record_opt_out(ledger, redis, OptOutAction.RESTRICT, [(IdentifierKind.EMAIL, ADA)])

    meta = await catch_up(ledger, redis, settings.expected_ids)

    assert meta.bucket_bits == keys.bucket_bits_for(settings.expected_ids)
    assert (await read_meta(redis)).opt_outs == 1
    assert await read_records(redis, meta, [ADA]) == [
        Record((OptOut(EVERYONE, OptOutAction.RESTRICT),))
    ]


async def test_no_catalog_is_published_while_an_opt_out_can_not_be_applied(
    ledger: AsyncEngine, redis: Redis, settings: Settings
) -> None:
    """
    A failure between the two must leave a store without a catalog, from which
    nobody is enriched, not one with a catalog and without opt-outs.
    """
    await seed(ledger)
    await catch_up(ledger, redis, settings.expected_ids)
    before = await read_version(redis)
    receipt = await record_opt_out(
        ledger, cut_off(redis), OptOutAction.RESTRICT, [(IdentifierKind.EMAIL, ADA)]
    )
    async with ledger.begin() as conn:
        await accounts.add_account(conn, AccountKind.AGENCY, "new", "New", now_s=NOW_S)

    with pytest.raises(RedisError):
        await catch_up(ledger, cut_off(redis), settings.expected_ids)

    assert receipt.waits_because
    assert await read_version(redis) == before
    await catch_up(ledger, redis, settings.expected_ids)
    assert (await read_meta(redis)).opt_outs == 1
    assert await read_version(redis) == await ledger_revision(ledger)


async def test_catalog_is_not_written_into_a_store_that_nobody_has_laid_out(
    ledger: AsyncEngine, redis: Redis
) -> None:
    with pytest.raises(StoreUnusable, match="seg:1:meta"):
        await publish_catalog(ledger, redis)

    assert await redis.dbsize() == 0


async def test_store_of_another_layout_is_left_alone(
    ledger: AsyncEngine, redis: Redis, settings: Settings
) -> None:
    await redis.hset(keys.META, mapping={"layout": "9", "bucket_bits": "8", "opt_outs": "0"})

    with pytest.raises(StoreUnusable, match="layout 9"):
        await catch_up(ledger, redis, settings.expected_ids)

    assert await redis.dbsize() == 1
