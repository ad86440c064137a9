import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.ledger.database.engine import open_ledger, reading
from segments.ledger.privacy import opt_outs
from segments.ledger.privacy.opt_outs import Request
from segments.model.identity import Id, IdentifierKind
from segments.model.record import OptOutAction
from segments.model.refusal import Refusal
from segments.settings import Settings
from tests.ledger_seed import NOW_S


def an_id(number: int) -> Id:
    return Id(number.to_bytes(16))


async def recorded(ledger: AsyncEngine, *numbers: int) -> Request:
    async with ledger.begin() as conn:
        (request,) = await opt_outs.record(
            conn,
            OptOutAction.RESTRICT,
            [[(IdentifierKind.EMAIL, an_id(n)) for n in numbers]],
            now_s=NOW_S,
        )
        assert request.is_new
        return request._replace(is_new=False)  # as it is from now on


async def unapplied(ledger: AsyncEngine, store_seq: int, limit: int = 10) -> list[Request]:
    async with reading(ledger) as conn:
        found: list[Request] = []
        while page := await opt_outs.unapplied(
            conn, store_seq, after_seq=found[-1].seq if found else 0, limit=limit
        ):
            found += page
    return found


async def test_requests_come_back_in_their_order_with_their_ids(ledger: AsyncEngine) -> None:
    requests = [await recorded(ledger, n, n + 10) for n in range(5)]

    assert await unapplied(ledger, store_seq=0, limit=2) == requests
    assert await unapplied(ledger, store_seq=requests[2].seq, limit=2) == requests


async def test_what_the_store_lacks_comes_back_though_it_was_marked(ledger: AsyncEngine) -> None:
    """
    Only a store knows that it was lost or set back.
    """
    requests = [await recorded(ledger, n) for n in range(3)]
    async with ledger.begin() as conn:
        await opt_outs.mark_applied(conn, [request.seq for request in requests], NOW_S)

    assert await unapplied(ledger, store_seq=requests[0].seq) == requests[1:]
    assert await unapplied(ledger, store_seq=requests[2].seq) == []


async def test_what_was_never_marked_comes_back_whatever_the_store_says(
    ledger: AsyncEngine,
) -> None:
    requests = [await recorded(ledger, n) for n in range(3)]
    async with ledger.begin() as conn:
        await opt_outs.mark_applied(conn, [requests[0].seq, requests[2].seq], NOW_S)

    assert await unapplied(ledger, store_seq=1000) == [requests[1]]


async def test_looking_for_what_waits_reads_no_table_from_its_start(settings: Settings) -> None:
    """
    It is asked every second, of a table that only grows. PostgreSQL has the
    same indexes.
    """
    asked: list[str] = []
    async with open_ledger(settings.ledger_dsn) as ledger, reading(ledger) as conn:
        raw = await conn.get_raw_connection()
        await raw.driver_connection.set_trace_callback(asked.append)  # type: ignore[union-attr]
        await opt_outs.unapplied(conn, 7, after_seq=0, limit=10)
        await raw.driver_connection.set_trace_callback(None)  # type: ignore[union-attr]
        plan = [row.detail for row in await conn.execute(text(f"explain query plan {asked[-1]}"))]

    searches = [step for step in plan if step.startswith(("SEARCH", "SCAN"))]
    assert [search.split(" USING ")[1] for search in searches] == [
        "INTEGER PRIMARY KEY (rowid>?)",
        "INDEX ix_data_subject_requests_unapplied (seq>?)",
    ]


async def test_id_given_twice_is_kept_once(ledger: AsyncEngine) -> None:
    request = await recorded(ledger, 1, 2, 1)

    assert request.ids == (an_id(1), an_id(2))


async def test_nobody_and_texts_too_long_are_refused(ledger: AsyncEngine) -> None:
    async with ledger.begin() as conn:
        somebody = [(IdentifierKind.EMAIL, an_id(1))]
        nobodies: list[list[list[tuple[IdentifierKind, Id]]]] = [[], [[]], [somebody, []]]
        for persons in nobodies:
            with pytest.raises(Refusal, match="no person"):
                await opt_outs.record(conn, OptOutAction.RESTRICT, persons, now_s=NOW_S)
        with pytest.raises(Refusal, match="jurisdiction of 17"):
            await opt_outs.record(
                conn,
                OptOutAction.RESTRICT,
                [[(IdentifierKind.EMAIL, an_id(1))]],
                jurisdiction="x" * 17,
                now_s=NOW_S,
            )


async def test_last_number_is_of_all_or_of_those_before_another(ledger: AsyncEngine) -> None:
    async with reading(ledger) as conn:
        assert await opt_outs.last_seq(conn) == 0
    first, second = await recorded(ledger, 1), await recorded(ledger, 2)

    async with reading(ledger) as conn:
        assert await opt_outs.last_seq(conn) == second.seq
        assert await opt_outs.last_seq(conn, before_seq=second.seq) == first.seq
        assert await opt_outs.last_seq(conn, before_seq=first.seq) == 0
