"""What only a ledger on PostgreSQL has to keep; all that both keep stands beside this."""

import asyncio
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from segments.ledger import accounts, audiences, job_leases, jobs
from segments.ledger.database.engine import LedgerAway, LedgerUnusable, open_ledger, reading
from segments.ledger.database.postgres import check_writable, make_engine
from segments.ledger.privacy import opt_outs
from segments.ledger.revision import raise_revision, revision
from segments.ledger.tables import data_subject_ids, metadata
from segments.model.account import AccountKind
from segments.model.audience import AudienceState
from segments.model.identity import Id, IdentifierKind
from segments.model.job import Job
from segments.model.order import Order
from segments.model.record import OptOutAction
from segments.settings import Settings
from tests.ledger_seed import NOW_S, Seeded, seed
from tests.postgres import PASSWORD, Postgres

WITHIN_S = 20

_DEFINITIONS = """
select conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
  from pg_constraint where connamespace = 'public'::regnamespace
union all
select indexdef from pg_indexes where schemaname = 'public'
union all
select concat_ws(' ', table_name, column_name, data_type, character_maximum_length,
                 is_nullable, column_default)
  from information_schema.columns where table_schema = 'public'
order by 1
"""

_WITHOUT_DRIVER = """
import asyncio, sys
sys.modules["asyncpg"] = None  # whoever imports it gets an ImportError
from segments.ledger.database.engine import open_ledger, reading
from segments.settings import Settings

async def main():
    async with open_ledger(Settings(ledger_url=sys.argv[1]).ledger_dsn) as ledger, reading(ledger):
        print("opened")

asyncio.run(main())
"""


@pytest.fixture
async def ledger(postgres_settings: Settings) -> AsyncIterator[AsyncEngine]:
    """A fresh ledger on PostgreSQL."""
    async with open_ledger(postgres_settings.ledger_dsn) as opened:
        yield opened


async def until_somebody_waits(postgres: Postgres, database: str) -> None:
    """Wait until a transaction of the database waits for another."""
    waiting = "select 1 from pg_locks where not granted"
    async with asyncio.timeout(WITHIN_S):
        while not await asyncio.to_thread(postgres.rows, database, waiting):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)


async def opening_fails(url: str) -> LedgerUnusable:
    with pytest.raises(LedgerUnusable) as caught:
        async with open_ledger(Settings(ledger_url=url).ledger_dsn):
            raise AssertionError("opened")
    assert "\n" not in str(caught.value)
    return caught.value


async def test_migrations_lead_to_every_constraint_of_the_tables(
    ledger: AsyncEngine, postgres: Postgres, database: str
) -> None:
    other = postgres.new_database()
    raw = create_async_engine("postgresql+asyncpg://" + postgres.url(other).partition("//")[2])
    async with raw.begin() as conn:
        await conn.run_sync(metadata.create_all)
    await raw.dispose()

    migrated, defined = (postgres.rows(name, _DEFINITIONS) for name in (database, other))
    postgres.drop(other)

    assert [row for row in migrated if "alembic_version" not in row[0]] == defined


async def test_migration_that_fails_leaves_no_half_of_itself(
    postgres: Postgres, database: str
) -> None:
    tables = "select tablename from pg_tables where schemaname = 'public'"
    postgres.execute(database, "create table jobs (x int)")

    assert "jobs" in str(await opening_fails(postgres.url(database)))
    assert postgres.rows(database, tables) == [("jobs",)]


def test_ledger_in_a_file_does_without_the_driver(settings: Settings) -> None:
    opened = subprocess.run(
        [sys.executable, "-c", _WITHOUT_DRIVER, settings.ledger_dsn],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (opened.stdout, opened.stderr) == ("opened\n", "")


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        pytest.param("hunter2@", "hunter3@", "password authentication failed", id="password"),
        pytest.param("/test_", "/tset_", "does not exist", id="database"),
        pytest.param("127.0.0.1:", "127.0.0.2:", "does not answer", id="host"),
        pytest.param("127.0.0.1:", "127.0.0.2:1,127.0.0.2:", "does not answer", id="hosts"),
        pytest.param("sslmode=prefer", "sslmode=maybe", "says something unknown", id="ssl"),
        pytest.param("sslmode=prefer", "a=b", "unrecognized configuration", id="setting"),
    ],
)
async def test_what_keeps_us_out_is_said_without_the_password(
    postgres: Postgres, database: str, right: str, wrong: str, expected: str
) -> None:
    url = postgres.tcp_url(database) + "?sslmode=prefer"

    error = await opening_fails(url.replace(right, wrong))

    assert expected in str(error)
    assert "hunter" not in "".join(traceback.format_exception(error))


async def test_whoever_gives_the_password_gets_in_and_nothing_shows_it(
    postgres: Postgres, database: str
) -> None:
    settings = Settings(ledger_url=postgres.tcp_url(database))

    async with open_ledger(settings.ledger_dsn) as ledger:
        assert PASSWORD not in repr(settings) + repr(ledger) + str(ledger.url)
        assert not ledger.url.password


async def test_user_who_may_not_make_tables_is_told_so(postgres: Postgres, database: str) -> None:
    postgres.execute(database, f"create role {database}_reader login")

    error = await opening_fails(postgres.url(database).replace("ledger@", f"{database}_reader@"))

    assert "permission denied" in str(error)


async def test_database_that_can_not_hold_every_name_is_refused(postgres: Postgres) -> None:
    name = postgres.new_database("encoding 'SQL_ASCII' locale 'C' template template0")

    assert "SQL_ASCII, not UTF8" in str(await opening_fails(postgres.url(name)))
    postgres.drop(name)


@pytest.mark.parametrize(("kept", "expected"), [("off", "on"), ("remote_apply", "remote_apply")])
async def test_what_was_committed_outlives_a_power_cut(
    ledger: AsyncEngine, postgres: Postgres, database: str, kept: str, expected: str
) -> None:
    postgres.execute(database, f"alter database {database} set synchronous_commit = {kept}")
    await ledger.dispose()

    async with reading(ledger) as conn:
        assert await conn.scalar(text("show synchronous_commit")) == expected


async def test_transactions_are_of_their_kind_whatever_the_database_prefers(
    ledger: AsyncEngine, postgres: Postgres, database: str
) -> None:
    postgres.execute(
        database, f"alter database {database} set default_transaction_isolation = serializable"
    )
    await ledger.dispose()
    isolation = text("show transaction_isolation")

    async with reading(ledger) as conn:
        assert await conn.scalar(isolation) == "repeatable read"
    async with ledger.begin() as conn:
        assert await conn.scalar(isolation) == "read committed"


async def test_look_for_room_keeps_nothing_and_needs_no_right_that_is_missing(
    postgres: Postgres, database: str
) -> None:
    statements = (
        "do $$ begin create role poor login; exception when duplicate_object then null; end $$",
        f"revoke temporary on database {database} from public",
    )
    url = postgres.url(database)
    async with open_ledger(url) as ledger:
        for _ in range(3):
            await check_writable(ledger)
        async with ledger.connect() as conn:
            rows = await conn.scalar(text("select count(*) from pg_temp.rtb_segments_room"))
        for statement in statements:
            async with ledger.begin() as conn:
                await conn.execute(text(statement))
    poor = make_engine(url.replace("ledger@", "poor@"))
    await check_writable(poor)
    async with poor.connect() as conn:
        who = await conn.scalar(text("select current_user"))
    await poor.dispose()

    assert (rows, who) == (0, "poor")


async def test_reading_connection_can_not_write(ledger: AsyncEngine) -> None:
    with pytest.raises(DBAPIError, match="read-only"):
        async with reading(ledger) as conn:
            await raise_revision(conn)


async def test_refused_row_is_not_quoted_in_the_error(ledger: AsyncEngine) -> None:
    """
    A traceback that somebody logs must not hold a person's id.
    """
    id_ = Id(b"\xab" * 16)
    async with ledger.begin() as conn:
        (request,) = await opt_outs.record(
            conn, OptOutAction.RESTRICT, [[(IdentifierKind.EMAIL, id_)]], now_s=NOW_S
        )

    async def insert_again() -> None:
        async with ledger.begin() as conn:
            row = {"seq": request.seq, "id": id_, "kind": "email"}
            await conn.execute(insert(data_subject_ids).values(row))

    with pytest.raises(IntegrityError) as caught:
        await insert_again()

    told = "".join(traceback.format_exception(caught.value))
    assert "abab" not in told
    assert r"\xab" not in told


async def test_server_that_comes_back_is_used_again(
    ledger: AsyncEngine, postgres: Postgres
) -> None:
    async def change_while_it_dies() -> None:
        async with ledger.begin() as conn:
            await raise_revision(conn)
            postgres.kill()
            await raise_revision(conn)

    with pytest.raises(LedgerAway):
        await change_while_it_dies()
    with pytest.raises(LedgerAway, match="does not answer"):
        async with reading(ledger):
            raise AssertionError("connected")
    postgres.start()

    async with reading(ledger) as conn:
        assert await revision(conn) > 0


async def partners(ledger: AsyncEngine) -> list[int]:
    async with ledger.begin() as conn:
        added = [
            await accounts.add_account(conn, AccountKind.ADVERTISER, name, name, now_s=0)
            for name in "ab"
        ]
    return [account.id for account in added]


async def submit(conn: AsyncConnection, partner_id: int, sha256: str) -> Job:
    return await jobs.submit(
        conn,
        door="test",
        partner_id=partner_id,
        owner_id=partner_id,
        order=Order(()),
        metadata={},
        blob="blob",
        sha256=sha256,
        file_name="a.txt",
        now_s=NOW_S,
    )


async def test_connections_that_a_restart_has_ended_fail_nobody(
    ledger: AsyncEngine, postgres: Postgres
) -> None:
    async def is_read() -> bool:
        async with reading(ledger) as conn:
            return await conn.scalar(text("select true")) is True

    assert all(await asyncio.gather(*(is_read() for _ in range(3))))
    await asyncio.to_thread(postgres.stop)
    await asyncio.to_thread(postgres.start)

    assert all([await is_read() for _ in range(4)])


async def test_jobs_of_a_partner_become_visible_in_their_order(
    ledger: AsyncEngine, postgres: Postgres, database: str
) -> None:
    """
    Otherwise a file could be claimed while one that came before it is not seen yet.
    """
    a, b = await partners(ledger)

    async def submit_later(partner_id: int, sha256: str) -> Job:
        async with ledger.begin() as conn:
            return await submit(conn, partner_id, sha256)

    async with ledger.begin() as conn:
        first = await submit(conn, a, "1")
        later = asyncio.create_task(submit_later(a, "2"))
        same = asyncio.create_task(submit_later(a, "2"))
        await until_somebody_waits(postgres, database)
        async with asyncio.timeout(WITHIN_S):
            await submit_later(b, "3")  # another partner's does not wait
        assert not later.done()
        assert not same.done()

    assert (await later).id > first.id
    assert await same == await later


async def test_claim_passes_by_what_another_is_claiming(ledger: AsyncEngine) -> None:
    a, b = await partners(ledger)
    async with ledger.begin() as conn:
        submitted = [await submit(conn, partner_id, "1") for partner_id in (a, b)]

    async with asyncio.timeout(WITHIN_S), ledger.begin() as one, ledger.begin() as other:
        claimed = [await job_leases.claim(conn, NOW_S) for conn in (one, other, other)]

    assert [job and job.id for job in claimed] == [submitted[0].id, submitted[1].id, None]


async def test_opt_outs_become_visible_in_their_order(
    ledger: AsyncEngine, postgres: Postgres, database: str
) -> None:
    """
    The store's number moves past what it has seen; one below that came later would be lost.
    """

    async def record(conn: AsyncConnection, number: int) -> int:
        ids = [(IdentifierKind.EMAIL, Id(number.to_bytes(16)))]
        (request,) = await opt_outs.record(conn, OptOutAction.RESTRICT, [ids], now_s=NOW_S)
        return request.seq

    async def record_later() -> int:
        async with ledger.begin() as conn:
            return await record(conn, 2)

    async with ledger.begin() as conn:
        first = await record(conn, 1)
        later = asyncio.create_task(record_later())
        await until_somebody_waits(postgres, database)

    assert await later > first


async def test_changes_of_the_catalog_in_any_order_never_block_each_other(
    ledger: AsyncEngine,
) -> None:
    seeded = await seed(ledger)
    async with reading(ledger) as conn:
        before = await revision(conn)

    async def in_order(*changes: Callable[[AsyncConnection, Seeded], Awaitable[object]]) -> None:
        async with ledger.begin() as conn:
            for change in changes:
                await change(conn, seeded)
                await asyncio.sleep(0)

    async with asyncio.timeout(WITHIN_S):
        for n in range(5):
            await asyncio.gather(
                in_order(_rename, _switch_account, _hide),
                in_order(_hide, _rename, _switch_account),
                in_order(_switch_account, _hide, _rename),
                *(in_order(_add(f"new{n}"), _rename) for _ in range(3)),
            )

    async with reading(ledger) as conn:
        assert await revision(conn) == before + 5 * (3 * 2 + 1)


async def _rename(conn: AsyncConnection, seeded: Seeded) -> None:
    name = f"Shoes {await revision(conn)}"
    await audiences.find_or_create_audience(
        conn, seeded.shop, seeded.shop, "123", name, now_s=NOW_S
    )


async def _switch_account(conn: AsyncConnection, seeded: Seeded) -> None:
    await accounts.set_account_active(conn, seeded.shop, True)


async def _hide(conn: AsyncConnection, seeded: Seeded) -> None:
    await audiences.set_state(conn, seeded.shoes, AudienceState.DEACTIVATED, now_s=NOW_S)


def _add(segment_id: str) -> Callable[[AsyncConnection, Seeded], Awaitable[object]]:
    async def add(conn: AsyncConnection, seeded: Seeded) -> None:
        await audiences.find_or_create_audience(
            conn, seeded.shop, seeded.shop, segment_id, "New", now_s=NOW_S
        )

    return add
