"""What an operator is told who asks what is wrong."""

import asyncio

import pytest
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ledger import accounts, audiences, jobs, uploads
from segments.ledger.database.engine import open_ledger
from segments.model.account import Account, AccountKind
from segments.model.job import JobState
from segments.model.order import Order, SegmentAction, SegmentOrder
from segments.projection.catalog import catch_up
from segments.settings import Settings
from segments.store.servers.connection import connect
from tests.engines import Engine
from tests.segments.cli.conftest import Command


@pytest.fixture
def on_engine(engine: Engine, run: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command on a store of each engine, caught up with its ledger."""
    monkeypatch.setenv("SEGMENTS_REDIS_URL", engine.url)

    async def prepare() -> None:
        settings = Settings()
        async with open_ledger(settings.ledger_dsn) as ledger, connect(settings.store_url) as redis:
            await catch_up(ledger, redis, settings.expected_ids)

    asyncio.run(prepare())
    return run


def test_service_that_is_well_is_said_to_be(on_engine: Command) -> None:
    result = on_engine("doctor")

    assert result.exit_code == 0, result.output
    assert {line.split()[0] for line in result.stdout.splitlines()} == {"ok"}
    assert "ledger" in result.stdout
    assert "buckets are packed" in result.stdout
    assert "power cut" in result.stdout


def test_catalog_that_is_behind_is_wrong_and_says_what_to_do(on_engine: Command) -> None:
    async def add_unpublished() -> None:
        from segments.ledger.revision import raise_revision

        async with open_ledger(Settings().ledger_dsn) as ledger, ledger.begin() as conn:
            await raise_revision(conn)

    asyncio.run(add_unpublished())

    result = on_engine("doctor")

    assert result.exit_code == 1
    assert "FAIL  catalog" in result.stdout
    assert "start the loader" in result.stdout


def test_store_that_does_not_run_is_wrong(run: Command) -> None:
    result = run("doctor")

    assert result.exit_code == 1
    assert "FAIL  store: does not answer" in result.stdout
    assert "rtb-segments up" in result.stdout


def test_id_that_is_given_and_a_partners_own_is_named(on_engine: Command) -> None:
    """
    As ids were given before they began at 10^12.
    """

    async def share() -> None:
        async with open_ledger(Settings().ledger_dsn) as ledger, ledger.begin() as conn:
            seeded = await seed(conn)
            made = await audiences.find_or_create_audience(
                conn, seeded, seeded, "1", "Boots", now_s=0
            )
            assert made.id == 1
            await uploads.add_upload(
                conn, seeded, made, file_name="a", action=SegmentAction.ADD, hash_type="md5",
                now_s=0, expires_at_s=0,
            )  # fmt: skip
            await jobs.submit(
                conn, door="sftp", partner_id=seeded.id, owner_id=seeded.id, blob="b", sha256="",
                order=Order((SegmentOrder("1", "Boots", SegmentAction.ADD),)), file_name="a",
                now_s=0, metadata={"a": 1},
            )  # fmt: skip

    async def seed(conn: AsyncConnection) -> Account:
        return await accounts.add_account(conn, AccountKind.ADVERTISER, "shop", "Shop", now_s=0)

    before = on_engine("doctor").stdout
    asyncio.run(share())
    after = on_engine("doctor").stdout

    assert "none is both given and a partner's own" in before
    assert "both are one audience: shop 1;" in after


def test_job_that_is_held_is_named_with_what_waits_behind_it(on_engine: Command) -> None:
    async def hold() -> None:
        async with open_ledger(Settings().ledger_dsn) as ledger, ledger.begin() as conn:
            shop = await accounts.add_account(conn, AccountKind.ADVERTISER, "shop", "Shop", now_s=0)
            for number in range(3):
                job = await jobs.submit(
                    conn, door="sftp", partner_id=shop.id, owner_id=shop.id, blob="b", sha256="",
                    order=Order((SegmentOrder("1", "Boots", SegmentAction.ADD),)), file_name="a",
                    now_s=0, metadata={"a": number},
                )  # fmt: skip
                if number == 0:
                    await jobs.rewrite(conn, replace(job, state=JobState.HELD))

    before = on_engine("doctor").stdout
    asyncio.run(hold())
    after = on_engine("doctor").stdout

    assert "ok    jobs: none is held" in before
    assert "warn  jobs: held until somebody looks: job 1 of shop (2 wait behind it);" in after
    assert "rtb-segments release" in after
