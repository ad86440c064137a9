"""A small ledger that says one of everything, for tests of what stands upon it."""

from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import accounts, audiences, recipients
from segments.model.account import Account, AccountKind
from segments.model.audience import Audience

NOW_S = 1_767_225_600.0  # 2026-01-01


class Seeded(NamedTuple):
    """What `seed` has put into a ledger."""

    group: Account
    publisher: Account  # of the group, related to the shop
    shop: Account  # an advertiser that is its own partner
    agency: Account
    sub: Account  # a sub account of the agency
    shoes: Audience  # of the shop, segment 123
    hats: Audience  # of the sub account, segment 123 as well
    dsp: recipients.Recipient  # sees the shop alone


async def seed(ledger: AsyncEngine) -> Seeded:
    """Put one of everything into a ledger."""
    async with ledger.begin() as conn:
        group = await accounts.add_account(conn, AccountKind.MEDIA_GROUP, "g", "Group", now_s=NOW_S)
        publisher = await accounts.add_account(
            conn, AccountKind.PUBLISHER, "p", "Publisher", parent=group, now_s=NOW_S
        )
        shop = await accounts.add_account(
            conn, AccountKind.ADVERTISER, "shop", "Shop", segtax=4, now_s=NOW_S
        )
        agency = await accounts.add_account(
            conn, AccountKind.AGENCY, "agency", "Agency", now_s=NOW_S
        )
        sub = await accounts.add_account(
            conn, AccountKind.ADVERTISER, "sub", "Sub", parent=agency, now_s=NOW_S
        )
        await accounts.relate(conn, publisher, shop)
        shoes = await audiences.find_or_create_audience(
            conn, shop, shop, "123", "Shoes", now_s=NOW_S
        )
        hats = await audiences.find_or_create_audience(
            conn, sub, agency, "123", "Hats", now_s=NOW_S
        )
        dsp = await recipients.add_recipient(conn, "dsp-a", now_s=NOW_S)
        await recipients.grant(conn, dsp, shop)
        dsp = await recipients.recipient(conn, "dsp-a")
    return Seeded(group, publisher, shop, agency, sub, shoes, hats, dsp)
