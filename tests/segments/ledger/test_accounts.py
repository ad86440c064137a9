import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segments.ledger import accounts
from segments.ledger.database.engine import reading
from segments.ledger.revision import revision
from segments.model.account import Account, AccountKind
from segments.model.refusal import Duplicate, NotFound, Refusal
from tests.ledger_seed import NOW_S, seed


async def add(
    conn: AsyncConnection, kind: AccountKind, public_id: str, parent: Account | None = None
) -> Account:
    return await accounts.add_account(
        conn, kind, public_id, public_id.upper(), parent=parent, now_s=NOW_S
    )


async def test_partner_is_found_by_its_id_and_a_sub_account_by_its_agency_and_its_own(
    ledger: AsyncEngine,
) -> None:
    seeded = await seed(ledger)

    async with reading(ledger) as conn:
        assert await accounts.find_partner(conn, "shop") == seeded.shop
        assert await accounts.find_partner(conn, "agency") == seeded.agency
        assert await accounts.find_partner(conn, "sub") is None
        assert await accounts.find_partner(conn, "p") is None
        assert await accounts.find_sub_account(conn, seeded.agency, "sub") == seeded.sub
        assert await accounts.find_sub_account(conn, seeded.agency, "shop") is None
        assert await accounts.find_publisher(conn, "p") == seeded.publisher


async def test_advertiser_of_a_media_group_is_a_partner_of_its_own(ledger: AsyncEngine) -> None:
    async with ledger.begin() as conn:
        group = await add(conn, AccountKind.MEDIA_GROUP, "g")
        own = await add(conn, AccountKind.ADVERTISER, "own", group)

        assert await accounts.find_partner(conn, "own") == own


async def test_tree_knows_parents_and_relations(ledger: AsyncEngine) -> None:
    seeded = await seed(ledger)

    async with reading(ledger) as conn:
        tree = await accounts.tree(conn)

    assert tree.forbidding(seeded.shop.id) == {
        seeded.shop.id,
        seeded.publisher.id,
        seeded.group.id,
    }
    assert tree.erased_by(seeded.agency.id) == {seeded.agency.id, seeded.sub.id}


async def test_same_id_twice_is_refused_where_it_would_be_ambiguous(ledger: AsyncEngine) -> None:
    async with ledger.begin() as conn:
        agency = await add(conn, AccountKind.AGENCY, "a")
        await add(conn, AccountKind.ADVERTISER, "x", agency)

        with pytest.raises(Duplicate, match="there is a partner a already"):
            await add(conn, AccountKind.ADVERTISER, "a")
        with pytest.raises(Duplicate, match="there is a sub account of a called x already"):
            await add(conn, AccountKind.ADVERTISER, "x", agency)
        # None of these is mistaken for another.
        await add(conn, AccountKind.ADVERTISER, "x")
        await add(conn, AccountKind.PUBLISHER, "x")
        await add(conn, AccountKind.MEDIA_GROUP, "x")


async def test_transaction_goes_on_after_a_refusal(ledger: AsyncEngine) -> None:
    async with ledger.begin() as conn:
        await add(conn, AccountKind.AGENCY, "a")
        with pytest.raises(Duplicate):
            await add(conn, AccountKind.AGENCY, "a")
        await add(conn, AccountKind.AGENCY, "b")

    async with reading(ledger) as conn:
        assert [account.public_id for account in await accounts.accounts(conn)] == ["a", "b"]


async def test_number_of_an_account_is_never_used_again(ledger: AsyncEngine) -> None:
    async with ledger.begin() as conn:
        first = await add(conn, AccountKind.AGENCY, "a")
        await conn.exec_driver_sql("delete from accounts")

        assert (await add(conn, AccountKind.AGENCY, "b")).id > first.id


@pytest.mark.parametrize(
    ("kind", "parent_kind"),
    [
        pytest.param(AccountKind.AGENCY, AccountKind.AGENCY, id="agency of an agency"),
        pytest.param(AccountKind.PUBLISHER, AccountKind.AGENCY, id="publisher of an agency"),
        pytest.param(AccountKind.ADVERTISER, AccountKind.PUBLISHER, id="advertiser of a publisher"),
        pytest.param(AccountKind.MEDIA_GROUP, AccountKind.MEDIA_GROUP, id="group of a group"),
    ],
)
async def test_account_stands_only_where_its_kind_can(
    ledger: AsyncEngine, kind: AccountKind, parent_kind: AccountKind
) -> None:
    async with ledger.begin() as conn:
        parent = await add(conn, parent_kind, "parent")

        with pytest.raises(Refusal, match="can't stand under"):
            await add(conn, kind, "child", parent)


@pytest.mark.parametrize(
    "public_id",
    [
        pytest.param("", id="empty"),
        pytest.param("x" * 129, id="too long"),
        pytest.param(" x", id="blank before"),
        pytest.param("x\n", id="line end behind"),
        pytest.param("x\u200by", id="character that nobody sees"),
    ],
)
async def test_id_that_people_could_mistake_is_refused(ledger: AsyncEngine, public_id: str) -> None:
    async with ledger.begin() as conn:
        with pytest.raises(Refusal, match=r"^id "):
            await add(conn, AccountKind.AGENCY, public_id)


async def test_segtax_is_of_partners_only(ledger: AsyncEngine) -> None:
    async with ledger.begin() as conn:
        with pytest.raises(Refusal, match="segtax"):
            await accounts.add_account(conn, AccountKind.PUBLISHER, "p", "P", segtax=4, now_s=NOW_S)


async def test_relation_is_of_a_publisher_and_a_partner(ledger: AsyncEngine) -> None:
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        with pytest.raises(Refusal, match="not an advertiser to a publisher"):
            await accounts.relate(conn, seeded.shop, seeded.publisher)


async def test_name_that_means_nobody_is_refused(ledger: AsyncEngine) -> None:
    await seed(ledger)

    async with reading(ledger) as conn:
        with pytest.raises(NotFound, match="there is no partner x"):
            await accounts.partner(conn, "x")
        with pytest.raises(NotFound, match="partner agency has no sub account x"):
            await accounts.partner(conn, "agency", "x")
        with pytest.raises(NotFound, match="partner shop has no sub account sub"):
            await accounts.partner(conn, "shop", "sub")
        with pytest.raises(NotFound, match="there is no publisher shop"):
            await accounts.publisher(conn, "shop")
        with pytest.raises(NotFound, match="there is no advertiser or agency or media group x"):
            await accounts.possible_parent(conn, AccountKind.ADVERTISER, "x")
        with pytest.raises(Refusal, match="an agency stands under no other account"):
            await accounts.possible_parent(conn, AccountKind.AGENCY, "agency")


async def test_parent_of_two_meanings_is_refused(ledger: AsyncEngine) -> None:
    async with ledger.begin() as conn:
        await add(conn, AccountKind.AGENCY, "x")
        group = await add(conn, AccountKind.MEDIA_GROUP, "x")

        with pytest.raises(Refusal, match="both a partner and a media group"):
            await accounts.possible_parent(conn, AccountKind.ADVERTISER, "x")
        assert await accounts.possible_parent(conn, AccountKind.PUBLISHER, "x") == group


async def test_relating_twice_changes_the_catalog_once(ledger: AsyncEngine) -> None:
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        before = await revision(conn)
        await accounts.relate(conn, seeded.publisher, seeded.shop)
        assert await revision(conn) == before
        await accounts.relate(conn, seeded.publisher, seeded.agency)
        assert await revision(conn) == before + 1


async def test_account_switched_off_stays_in_the_ledger(ledger: AsyncEngine) -> None:
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        await accounts.set_account_active(conn, seeded.shop, False)

        assert not (await accounts.account(conn, seeded.shop.id)).is_active


async def test_advertiser_may_have_sub_accounts_and_those_have_none(ledger: AsyncEngine) -> None:
    seeded = await seed(ledger)

    async with ledger.begin() as conn:
        sub = await accounts.add_account(
            conn, AccountKind.ADVERTISER, "nl-7", "NL", parent=seeded.shop, now_s=NOW_S
        )
        with pytest.raises(Refusal, match="nl-7 is a sub account, and has none of its own"):
            await accounts.add_account(
                conn, AccountKind.ADVERTISER, "x", "X", parent=sub, now_s=NOW_S
            )
        assert await accounts.find_sub_account(conn, seeded.shop, "nl-7") == sub
        assert await accounts.find_partner(conn, "nl-7") is None
        assert await accounts.partner_of(conn, sub) == seeded.shop
        assert await accounts.named(conn, "shop/nl-7") == sub
        with pytest.raises(NotFound, match="there is no"):
            await accounts.possible_parent(conn, AccountKind.ADVERTISER, "nl-7")
