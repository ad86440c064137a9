import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import recipients
from segments.ledger.database.engine import reading
from segments.ledger.revision import revision
from segments.model.refusal import Duplicate, NotFound, Refusal
from tests.ledger_seed import NOW_S, seed


async def test_recipient_sees_what_was_granted_and_not_revoked(ledger: AsyncEngine) -> None:
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        await recipients.grant(conn, seeded.dsp, seeded.agency)
        both = await recipients.recipient(conn, "dsp-a")
        await recipients.revoke(conn, both, seeded.shop)
        one = await recipients.recipient(conn, "dsp-a")

    assert both.partner_ids == (seeded.shop.id, seeded.agency.id)
    assert one.partner_ids == (seeded.agency.id,)


async def test_each_change_of_recipients_changes_the_catalog(ledger: AsyncEngine) -> None:
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        before = await revision(conn)
        await recipients.grant(conn, seeded.dsp, seeded.shop)
        assert await revision(conn) == before, "granted before"
        await recipients.grant(conn, seeded.dsp, seeded.agency)
        await recipients.revoke(conn, seeded.dsp, seeded.shop)
        await recipients.set_hold_out(conn, seeded.dsp, 0.25)
        await recipients.set_recipient_active(conn, seeded.dsp, False)
        assert await revision(conn) == before + 4

        changed = await recipients.recipient(conn, "dsp-a")
    assert (changed.hold_out, changed.is_active) == (0.25, False)


async def test_only_partners_are_granted(ledger: AsyncEngine) -> None:
    """
    Segments of a sub account are shown by its agency, and granted with it.
    """
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        for account in (seeded.sub, seeded.publisher, seeded.group):
            with pytest.raises(Refusal, match=f"{account.public_id} is no partner"):
                await recipients.grant(conn, seeded.dsp, account)


async def test_recipient_twice_or_unknown_is_refused(ledger: AsyncEngine) -> None:
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        with pytest.raises(Duplicate, match="there is a recipient dsp-a already"):
            await recipients.add_recipient(conn, "dsp-a", now_s=NOW_S)
        with pytest.raises(NotFound, match="there is no recipient dsp-b"):
            await recipients.recipient(conn, "dsp-b")
        with pytest.raises(NotFound, match="dsp-a has no grant of partner agency"):
            await recipients.revoke(conn, seeded.dsp, seeded.agency)


@pytest.mark.parametrize("name", ["", "a/b", "a b", "ä", "-a", "a" * 129, "a\n"])
async def test_name_that_can_not_stand_in_a_url_is_refused(ledger: AsyncEngine, name: str) -> None:
    async with ledger.begin() as conn:
        with pytest.raises(Refusal, match="recipient's name"):
            await recipients.add_recipient(conn, name, now_s=NOW_S)


@pytest.mark.parametrize("hold_out", [-0.1, 1.1, float("nan")])
async def test_hold_out_is_a_fraction(ledger: AsyncEngine, hold_out: float) -> None:
    async with reading(ledger) as conn:
        with pytest.raises(Refusal, match="fraction"):
            await recipients.add_recipient(conn, "x", hold_out=hold_out, now_s=NOW_S)
