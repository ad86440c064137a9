"""An operator's pages of partners: what each has, and the acts on it, each with its audit row."""

from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import accounts
from segments.model.account import AccountKind
from segments.model.job import JobState
from segments.model.role import Role
from tests.console import Served
from tests.ledger_seed import Seeded
from tests.segments.console.test_pages import delivery, whats


async def test_a_partner_is_shown_with_what_it_has(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    await delivery(ledger, seeded, JobState.DONE, name="people.txt")
    await console.user("jane", seeded.shop)
    async with console.staff_of(Role.OPERATOR) as ada:
        every = (await ada.see("/ops/partners")).said
        shop = await ada.see(f"/ops/partners/{seeded.shop.id}")
        agency = await ada.see(f"/ops/partners/{seeded.agency.id}")
        for other in (seeded.group.id, seeded.publisher.id, 999, "1' or 1"):
            assert (await ada.see(f"/ops/partners/{other}")).status == 404, other
    assert "Shop shop advertiser 1 1 Active" in every
    assert "Sub of Agency sub advertiser 1 — Active" in every
    for words in (
        "1 of 1 audiences active",
        "people.txt",
        "dsp-a",
        "Publisher",
        "jane",
        "Segtax 4",
    ):
        assert words in shop.said, words
    assert "Sub accounts Sub sub" in agency.said
    assert "people.txt" not in agency.said


async def test_a_partner_is_added_related_and_switched_off(
    console: Served, seeded: Seeded, ledger: AsyncEngine
) -> None:
    async with console.staff_of(Role.OPERATOR) as ada, console.user_of(seeded.shop) as shop:
        await ada.see("/ops/partners")
        fields = {"kind": "advertiser", "public_id": "new", "name": "New", "segtax": "600"}
        for wrong in ({"kind": "publisher"}, {"public_id": "shop"}, {"segtax": "x"}, {"name": ""}):
            refused = await ada.send("/ops/partners", **{**fields, **wrong})
            assert refused.status == 422, wrong
        added = await ada.send("/ops/partners", **fields)
        assert "Saved." in (await ada.see(added.location)).said
        at = added.location.partition("?")[0]
        await ada.send(f"{at}/relate", publisher="p")
        assert "Unrelate p" in (await ada.see(at)).said
        await ada.send(f"{at}/unrelate", publisher="p")
        own = f"/ops/partners/{seeded.shop.id}"
        assert "No bid shows its 1 segment from now on" in (await ada.see(own)).said
        await ada.send(f"{own}/deactivate")
        assert (await shop.see("/audiences")).location.startswith("/login")
        await ada.send(f"{own}/activate")
        assert (await shop.see("/audiences")).status == 200
    async with ledger.connect() as conn:
        new = await accounts.partner(conn, "new")
        relations = await accounts.relations(conn)
    assert (new.kind, new.segtax) == (AccountKind.ADVERTISER, 600)
    assert relations == [(seeded.publisher.id, seeded.shop.id)]
    assert await whats(ledger) == [
        ("staff", "account add", "new"),
        ("staff", "account relate", "new"),
        ("staff", "account unrelate", "new"),
        ("staff", "account deactivate", "shop"),
        ("staff", "account activate", "shop"),
    ]
