import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import users
from segments.ledger.signing_secrets import own_secret
from segments.model.refusal import Duplicate, NotFound, Refusal
from tests.ledger_seed import NOW_S, seed


async def test_secret_is_drawn_once_and_differs_by_name(ledger: AsyncEngine) -> None:
    async with ledger.begin() as conn:
        first = await own_secret(conn, "a", now_s=NOW_S)
        other = await own_secret(conn, "b", now_s=NOW_S)
    async with ledger.begin() as conn:
        again = await own_secret(conn, "a", now_s=NOW_S)

    assert first == again != other


async def test_username_is_one_users_in_any_case(ledger: AsyncEngine) -> None:
    seeded = await seed(ledger)
    async with ledger.begin() as conn:
        added = await users.add_user(conn, "Bob", seeded.shop, "hash", now_s=NOW_S)

        with pytest.raises(Duplicate):
            await users.add_user(conn, "bOB", seeded.sub, "hash", now_s=NOW_S)

        assert await users.find_user(conn, "BOB") == added
        with pytest.raises(NotFound):
            await users.user(conn, "eve")


async def test_only_partners_have_users(ledger: AsyncEngine) -> None:
    seeded = await seed(ledger)
    async with ledger.begin() as conn:
        with pytest.raises(Refusal):
            await users.add_user(conn, "bob", seeded.publisher, "hash", now_s=NOW_S)


async def test_expired_sessions_are_forgotten_by_the_next_login(ledger: AsyncEngine) -> None:
    seeded = await seed(ledger)
    async with ledger.begin() as conn:
        bob = await users.add_user(conn, "bob", seeded.shop, "hash", now_s=NOW_S)
        old = await users.begin_session(conn, bob, now_s=NOW_S, expires_at_s=NOW_S + 10)

        before = await users.user_of_session(conn, old.id, NOW_S + 9)
        at_end = await users.user_of_session(conn, old.id, NOW_S + 10)
        new = await users.begin_session(conn, bob, now_s=NOW_S + 10, expires_at_s=NOW_S + 20)
        # As of then it was open; now it is not there any more.
        after = await users.user_of_session(conn, old.id, NOW_S + 9)

    assert (before, at_end, after) == (bob, None, None)
    assert new.id != old.id


async def test_hash_is_renewed_unless_the_password_was_changed_meanwhile(
    ledger: AsyncEngine,
) -> None:
    seeded = await seed(ledger)
    async with ledger.begin() as conn:
        bob = await users.add_user(conn, "bob", seeded.shop, "old", now_s=NOW_S)
        await users.renew_hash(conn, bob, "same password, renewed")
        renewed = await users.user(conn, "bob")
        await users.set_password(conn, renewed, "another password")
        await users.renew_hash(conn, renewed, "same password again")

        assert renewed.password_hash == "same password, renewed"
        assert (await users.user(conn, "bob")).password_hash == "another password"
