"""The console's sessions and staff, on both databases."""

from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger import console_sessions, staff, users
from segments.ledger.console_sessions import PENDING_S, STAFFS, USERS
from segments.ledger.staff import Staff
from segments.model.role import Role
from tests.ledger_seed import NOW_S, seed


async def ada(ledger: AsyncEngine) -> Staff:
    async with ledger.begin() as conn:
        await staff.add_staff(conn, "Ada", [Role.OPERATOR], "hash", now_s=NOW_S)
        member = await staff.staff(conn, "ADA")
        await staff.draw_secret(conn, member, "SECRET")
        return await staff.staff(conn, "ada")


async def test_a_step_of_a_code_is_used_once_and_never_an_older_one(ledger: AsyncEngine) -> None:
    member = await ada(ledger)
    async with ledger.begin() as conn:
        used = [await staff.use_step(conn, member, step) for step in (7, 7, 6, 8)]
        await staff.draw_secret(conn, member, "ANOTHER")  # enrolled: it stays
        assert used == [True, False, False, True]
        assert (await staff.staff(conn, "ada")).totp_secret == "SECRET"
        await staff.set_password(conn, member, "hash", forgets_code=True)
        assert not (await staff.staff(conn, "ada")).is_enrolled
        assert not await staff.use_step(conn, member, 9)  # of the secret that is forgotten


async def test_a_session_lasts_as_long_as_its_kind(ledger: AsyncEngine) -> None:
    seeded, member = await seed(ledger), await ada(ledger)
    async with ledger.begin() as conn:
        user = await users.add_user(conn, "jane", seeded.shop, "hash", now_s=NOW_S)
        janes = await console_sessions.begin(conn, user, is_proven=True, now_s=NOW_S)
        adas = await console_sessions.begin(conn, member, is_proven=True, now_s=NOW_S)
        pending = await console_sessions.begin(conn, member, is_proven=False, now_s=NOW_S)

        for token, idle_s in ((janes, USERS.idle_s), (adas, STAFFS.idle_s), (pending, PENDING_S)):
            assert await console_sessions.find(conn, token, now_s=NOW_S + idle_s - 1) is not None
            assert await console_sessions.find(conn, token, now_s=NOW_S + idle_s) is None
        assert await console_sessions.find(conn, janes[:-1], now_s=NOW_S) is None


async def test_an_ended_session_leaves_with_the_next_login(ledger: AsyncEngine) -> None:
    member = await ada(ledger)
    async with ledger.begin() as conn:
        first = await console_sessions.begin(conn, member, is_proven=True, now_s=NOW_S)
        later_s = NOW_S + STAFFS.idle_s
        await console_sessions.begin(conn, member, is_proven=True, now_s=later_s)
        assert await console_sessions.find(conn, first, now_s=NOW_S) is None
