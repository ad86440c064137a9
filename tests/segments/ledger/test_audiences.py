from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import audiences
from segments.ledger.database.engine import reading
from segments.ledger.revision import revision
from segments.model.audience import AudienceState
from segments.model.refusal import NotFound, Refusal
from tests.ledger_seed import NOW_S, seed


async def test_unknown_segment_becomes_an_audience_and_a_known_one_stays_it(
    ledger: AsyncEngine,
) -> None:
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        again = await audiences.find_or_create_audience(
            conn, seeded.shop, seeded.shop, "123", "Shoes", now_s=NOW_S
        )
        other = await audiences.find_or_create_audience(
            conn, seeded.shop, seeded.shop, "124", "Socks", now_s=NOW_S
        )

    assert again == seeded.shoes
    assert other.id not in {seeded.shoes.id, seeded.hats.id}
    assert seeded.shoes.id != seeded.hats.id, "one segment id, two owners"


async def test_creating_an_audience_changes_the_catalog_and_finding_it_does_not(
    ledger: AsyncEngine,
) -> None:
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        before = await revision(conn)
        for name in ("Shoes", "Boots"):
            found = await audiences.find_or_create_audience(
                conn, seeded.shop, seeded.shop, "123", name, now_s=NOW_S
            )
        assert await revision(conn) == before
        await audiences.find_or_create_audience(
            conn, seeded.shop, seeded.shop, "9", "New", now_s=NOW_S
        )
        assert await revision(conn) == before + 1

    assert found == replace(seeded.shoes, name="Boots")


async def test_change_that_is_taken_back_leaves_the_revision_where_it_was(
    ledger: AsyncEngine,
) -> None:
    """
    The revision belongs to the transaction of the change, so nobody publishes
    what was never committed, and nothing committed stays unpublished.
    """
    seeded = await seed(ledger)
    async with ledger.connect() as conn:
        before = await revision(conn)
        await audiences.set_state(conn, seeded.shoes, AudienceState.DEACTIVATED, now_s=NOW_S)
        assert await revision(conn) == before + 1
        await conn.rollback()

    async with reading(ledger) as conn:
        assert await revision(conn) == before
        assert await audiences.audience(conn, seeded.shoes.id) == seeded.shoes


async def test_segment_id_of_a_deleted_audience_gets_a_new_number(ledger: AsyncEngine) -> None:
    """
    Records may still hold the old number; it must not come alive again.
    """
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        await audiences.set_state(conn, seeded.shoes, AudienceState.DELETED, now_s=NOW_S)
        assert await audiences.find_audience(conn, seeded.shop, "123") is None
        new = await audiences.find_or_create_audience(
            conn, seeded.shop, seeded.shop, "123", "Shoes", now_s=NOW_S
        )
        states = {a.id: a.state for a in await audiences.audiences(conn, seeded.shop)}

    assert states == {seeded.shoes.id: AudienceState.DELETED, new.id: AudienceState.ACTIVE}


async def test_deleted_audience_does_not_change_any_more(ledger: AsyncEngine) -> None:
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        await audiences.set_state(conn, seeded.shoes, AudienceState.DELETED, now_s=NOW_S)
        deleted = await audiences.audience(conn, seeded.shoes.id)

        with pytest.raises(Refusal, match="was deleted"):
            await audiences.set_state(conn, deleted, AudienceState.ACTIVE, now_s=NOW_S)
        with pytest.raises(Refusal, match="was deleted"):
            await audiences.set_window(conn, deleted, None, None, now_s=NOW_S)
        with pytest.raises(Refusal, match="was deleted"):
            await audiences.set_ttl(conn, deleted, 1, now_s=NOW_S)


async def test_window_and_ttl_are_kept(ledger: AsyncEngine) -> None:
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        await audiences.set_window(conn, seeded.shoes, 1, 2, now_s=NOW_S)
        await audiences.set_ttl(conn, seeded.shoes, 30, now_s=NOW_S)

        expected = replace(seeded.shoes, live_from_s=1, live_until_s=2, ttl_days=30)
        assert await audiences.audience(conn, seeded.shoes.id) == expected


async def test_window_that_never_opens_and_days_that_are_none_are_refused(
    ledger: AsyncEngine,
) -> None:
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        with pytest.raises(Refusal, match="ends before it begins"):
            await audiences.set_window(conn, seeded.shoes, 2, 2, now_s=NOW_S)
        for ttl_days in (0, audiences.MAX_TTL_DAYS + 1):
            with pytest.raises(Refusal, match="days, not 1 to"):
                await audiences.set_ttl(conn, seeded.shoes, ttl_days, now_s=NOW_S)


async def test_number_that_is_no_audience_is_refused(ledger: AsyncEngine) -> None:
    async with reading(ledger) as conn:
        with pytest.raises(NotFound, match="there is no audience 7"):
            await audiences.audience(conn, 7)


async def test_segment_id_that_can_not_stand_in_a_bid_request_is_refused(
    ledger: AsyncEngine,
) -> None:
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        with pytest.raises(Refusal, match="segment id"):
            await audiences.find_or_create_audience(
                conn, seeded.shop, seeded.shop, "9" * 65, "x", now_s=NOW_S
            )
