import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.privacy import audit, opt_outs
from segments.ledger.privacy.audit import COMMAND_LINE, Entry
from segments.model.identity import Id, IdentifierKind
from segments.model.record import OptOutAction
from tests.ledger_seed import NOW_S

ADA, BOB = Id(b"a" * 16), Id(b"b" * 16)


async def trail(ledger: AsyncEngine, since_s: float = 0.0) -> list[dict[str, object]]:
    async with ledger.connect() as conn:
        return [row async for row in audit.entries(conn, since_s=since_s)]


async def add(ledger: AsyncEngine, *entries: Entry, now_s: float = NOW_S) -> None:
    async with ledger.begin() as conn:
        await audit.add(conn, COMMAND_LINE, entries, now_s=now_s)


@pytest.mark.parametrize("change", ["update audit set reason = 'none'", "delete from audit"])
async def test_what_is_written_down_is_never_changed(ledger: AsyncEngine, change: str) -> None:
    await add(ledger, Entry("RESTRICT"))

    with pytest.raises(DBAPIError, match="append-only"):
        async with ledger.begin() as conn:
            await conn.execute(text(change))

    assert len(await trail(ledger)) == 1


async def test_opt_out_and_its_entry_are_there_together_or_not_at_all(
    ledger: AsyncEngine,
) -> None:
    async with ledger.connect() as conn, conn.begin() as transaction:
        await opt_outs.record(
            conn, OptOutAction.RESTRICT, [[(IdentifierKind.EMAIL, ADA)]], now_s=NOW_S
        )
        await transaction.rollback()
    assert await trail(ledger) == []

    async with ledger.begin() as conn:
        (request,) = await opt_outs.record(
            conn, OptOutAction.RESTRICT, [[(IdentifierKind.EMAIL, ADA)]], now_s=NOW_S
        )
    (entry,) = await trail(ledger)
    assert (entry["transaction_id"], entry["what"]) == (request.transaction_id, "RESTRICT")


async def test_ids_are_told_as_salted_digests(ledger: AsyncEngine) -> None:
    await add(ledger, Entry("RESTRICT", ids=[ADA, BOB]), Entry("ERASURE", ids=[ADA]))

    first, second = await trail(ledger)

    assert ADA.hex() not in str(first)
    assert len(set(first["subjects"])) == 2  # type: ignore[call-overload]
    assert set(second["subjects"]) < set(first["subjects"])  # type: ignore[call-overload]
    async with ledger.begin() as conn:
        assert [await audit.digest_of(conn, ADA, now_s=NOW_S)] == second["subjects"]


async def test_trail_is_read_in_its_order_from_a_moment_on_however_long(
    ledger: AsyncEngine,
) -> None:
    for number in range(3):
        await add(ledger, *(Entry(f"{number}") for _ in range(600)), now_s=NOW_S + number)

    told = [entry["what"] for entry in await trail(ledger, NOW_S + 1)]

    assert told == ["1"] * 600 + ["2"] * 600
